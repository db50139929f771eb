"DICOM files for tests"
import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid


def radiograph(grey, study='1.2.3', **tags):
    "A computed radiograph; tags replace what is said here"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    grey = np.ascontiguousarray(grey)
    bits = 8*grey.itemsize
    about = dict(SOPClassUID=ComputedRadiographyImageStorage, SOPInstanceUID=generate_uid(), StudyInstanceUID=study,
        SeriesInstanceUID=generate_uid(), Modality='CR', SeriesNumber=1, InstanceNumber=1,
        Rows=grey.shape[0], Columns=grey.shape[1], BitsStored=bits, BitsAllocated=bits, HighBit=bits-1,
        SamplesPerPixel=1, PixelRepresentation=0, PhotometricInterpretation='MONOCHROME2', PixelData=grey.tobytes(),
        PatientName='Test^A', PatientID='1', PatientBirthDate='', PatientSex='', StudyDate='20260101',
        StudyTime='120000', StudyID='', AccessionNumber='', ReferringPhysicianName='')
    for k, v in (about | tags).items(): setattr(ds, k, v)
    return ds


def write(file, grey, **tags):
    radiograph(grey, **tags).save_as(file, enforce_file_format=True)
    return file


def misspell(ds, **values):
    "Put texts into a dataset as a file holds them, whether they are allowed or not"
    for keyword, text in values.items():
        tag, value = Tag(tag_for_keyword(keyword)), text.encode('latin-1') + b' '*(len(text)%2)
        ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    return ds


def table(entries, bits, first=0):
    "A sequence with one table of 16-bit entries, declared to have `bits`"
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.add_new('LUTData', 'OW', np.asarray(entries).astype('<u2').tobytes())
    return [item]
