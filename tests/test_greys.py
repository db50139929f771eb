"""Files as scanners, archives and converters write them: white comes from the values, what a file says of its
display is honoured or refused, one odd tag does not cost the picture, and the reason that is given is the right one."""
import io, os, struct, threading, warnings, zlib
from types import SimpleNamespace
import numpy as np, pydicom, pytest
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from mura_nb.dicom_grey import OddTagWarning
from mura_nb.images import decode_picture, is_dicom, kind_of_file, read_picture, scan_files
import dicoms

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)
TWELVE = np.round(GREYS*(4095/255)).astype(np.uint16)
BITS = dict(BitsStored=12, HighBit=11)


def shown(tmp_path, stored=TWELVE, **tags):
    "The grey picture of a DICOM file; what is left aside is an error"
    bits = BITS if stored.itemsize == 2 else {}
    with warnings.catch_warnings():
        warnings.simplefilter('error', OddTagWarning)
        return read_picture(dicoms.write(tmp_path/'a.dcm', stored, **bits | tags))


def same(a, b, by=0): return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= by


# -- white from the values ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize('used', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('declared', [12, 16])
def test_a_table_is_as_white_as_its_entries(tmp_path, used, declared):
    entries = np.round(np.arange(4096)*((2**used - 1)/4095))
    assert same(shown(tmp_path, VOILUTSequence=dicoms.table(entries, declared)), GREYS, 1)


def test_a_table_before_a_window(tmp_path):
    tables = dict(VOILUTSequence=dicoms.table(np.arange(4096), 16))
    assert same(shown(tmp_path, **tables, WindowCenter=5, WindowWidth=2), GREYS)


def test_modality_tables(tmp_path):
    assert same(shown(tmp_path, GREYS, ModalityLUTSequence=dicoms.table(np.arange(256)*257, 16)), GREYS)
    assert same(shown(tmp_path, ModalityLUTSequence=dicoms.table(np.arange(4096), 12)), GREYS)
    assert same(shown(tmp_path, GREYS, ModalityLUTSequence=dicoms.table(255 - np.arange(256), 8)), 255 - GREYS)
    window = dict(WindowCenter=2048, WindowWidth=4096)
    assert same(shown(tmp_path, GREYS, ModalityLUTSequence=dicoms.table(np.arange(256)*16, 12), **window), GREYS, 1)


@pytest.mark.parametrize('syntax', [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize('vr', ['OW', 'US'])
def test_tables_in_any_encoding_and_from_a_negative_value(syntax, vr):
    "64512 is -1024, where values are negative"
    order = '>u2' if syntax == ExplicitVRBigEndian else '<u2'
    tables = dicoms.table(np.arange(4096), 16, 64512)
    entries = np.arange(4096).astype(order)
    tables[0].add_new('LUTData', vr, entries.tobytes() if vr == 'OW' else entries.tolist())
    ds = dicoms.radiograph(TWELVE.astype(order), **BITS, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=tables)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(stream := io.BytesIO(), enforce_file_format=True)
    assert same(decode_picture(stream.getvalue()), GREYS)


ADAM7 = (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1) # row, column


def png(file, values, colours, interlaced=False, clear=b''):
    "A PNG of 16 bits; colours 0 grey, 2 RGB, 4 grey and transparency, 6 RGB and transparency; clear: its chunk tRNS"
    def number(n): return struct.pack('>I', n)
    def chunk(kind, data): return number(len(data)) + kind + data + number(zlib.crc32(kind + data))
    h, w = values.shape[:2]
    head = chunk(b'IHDR', number(w) + number(h) + bytes([16, colours, 0, 0, interlaced]))
    if clear: head += chunk(b'tRNS', clear)
    passes = [values[y::down, x::across] for y, x, down, across in ADAM7] if interlaced else [values]
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for part in passes if part.size for row in part)
    file.write_bytes(b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
    return file


def in_channels(grey, colours):
    opaque = np.full_like(grey, 65535)
    return {0: grey, 2: np.dstack([grey]*3), 4: np.dstack([grey, opaque]), 6: np.dstack([grey]*3 + [opaque])}[colours]


@pytest.mark.parametrize('colours', [0, 2, 4, 6])
@pytest.mark.parametrize('bits', [8, 10, 12, 14])
def test_fewer_bits_in_a_png_of_16(tmp_path, bits, colours):
    grey = np.round(GREYS*((2**bits - 1)/255)).astype(np.uint16)
    assert same(read_picture(png(tmp_path/'a.png', in_channels(grey, colours), colours)), GREYS)


@pytest.mark.parametrize('colours', [0, 2, 4, 6])
def test_a_png_that_uses_16_bits_stays_as_it_was(tmp_path, colours):
    grey = GREYS.astype(np.uint16)*257
    assert same(read_picture(png(tmp_path/'a.png', in_channels(grey, colours), colours)), GREYS)


@pytest.mark.parametrize('colours', [0, 2])
@pytest.mark.parametrize('white', [4095, 65535])
def test_only_the_transparent_colour_of_16_bits_becomes_black(tmp_path, white, colours):
    "The other colours that share its upper or lower byte stay"
    grey = np.linspace(1, white, 64).astype(np.uint16).reshape(8, 8)
    clear = int(grey[3, 3])
    grey[4, 4], grey[5, 5] = clear ^ 1, clear ^ 256
    want = np.where(grey == clear, 0, grey if white == 4095 else grey >> 8 if colours else grey)
    want = want if white == 65535 and colours else np.round(want*(255/white))
    chunk = struct.pack('>H', clear)*(3 if colours else 1)
    found = read_picture(png(tmp_path/'a.png', in_channels(grey, colours), colours, clear=chunk))
    assert same(found, want.astype(np.uint8)) and found[3, 3] == 0 and found[4, 4] > 0 and found[5, 5] > 0


@pytest.mark.parametrize('how', [dict(), dict(rowsperstrip=3), dict(byteorder='>'), dict(compression='deflate'),
    dict(compression='deflate', byteorder='>', predictor=2)], ids=str)
def test_fewer_bits_in_a_tiff_of_16(tmp_path, how):
    import tifffile
    kinds = dict(minisblack=TWELVE, miniswhite=4095 - TWELVE, rgb=np.dstack([TWELVE]*3))
    if how.get('byteorder') == '>': del kinds['miniswhite'] # Pillow does not know it
    for kind, values in kinds.items():
        tifffile.imwrite(tmp_path/'a.tif', values, photometric=kind, **how)
        assert same(read_picture(tmp_path/'a.tif'), GREYS), kind


def test_colours_in_planes_that_pillow_garbles(tmp_path):
    import tifffile
    tifffile.imwrite(tmp_path/'a.tif', np.stack([TWELVE]*3), photometric='rgb', planarconfig='separate')
    with pytest.raises(ValueError, match='separate planes'): read_picture(tmp_path/'a.tif')


def test_colours_of_12_bits_in_dicom(tmp_path):
    rgb = dict(SamplesPerPixel=3, PhotometricInterpretation='RGB', PlanarConfiguration=0, BitsStored=16, HighBit=15)
    assert same(shown(tmp_path, np.dstack([TWELVE]*3), **rgb), GREYS)


# -- what a file says of its display -----------------------------------------------------------------------------------

def framed(stored, padding):
    "Within a frame of padding"
    return np.pad(stored, 3, constant_values=padding)


@pytest.mark.parametrize('padding', [0, 4095])
@pytest.mark.parametrize('kind', ['MONOCHROME1', 'MONOCHROME2'])
@pytest.mark.parametrize('window', [dict(), dict(WindowCenter=2048, WindowWidth=4096)])
def test_padding_is_shown_black(tmp_path, padding, kind, window):
    "And what is as white as the padding, but inside, stays white"
    inside = np.clip(TWELVE, 100, 3900)
    inside[5:8, 5:8] = padding
    stored = framed(4095 - inside if kind == 'MONOCHROME1' else inside, padding)
    if kind == 'MONOCHROME1': stored[8:11, 8:11] = padding
    got = shown(tmp_path, stored, PhotometricInterpretation=kind, PixelPaddingValue=padding, **window)
    assert not got[:3].any() and not got[:, -3:].any()
    white = (padding == 0) == (kind == 'MONOCHROME1')
    assert same(got[8:11, 8:11], np.full((3, 3), 255*white)) and got[3:-3, 3:-3].max() > 240


def test_padding_as_a_range_and_as_a_negative_number(tmp_path):
    stored = framed(TWELVE, 7)
    stored[0] = 9
    stored[3:-3, 3:-3] = np.clip(TWELVE, 10, 4095)
    limits = dict(PixelPaddingValue=9, PixelPaddingRangeLimit=6)
    got = shown(tmp_path, stored, PhotometricInterpretation='MONOCHROME1', **limits)
    assert not got[:3].any() and not got[:, :3].any() and got[3, 3] == 255
    signed = framed(TWELVE.astype(np.int16), -5)
    ds = dicoms.radiograph(signed, PixelRepresentation=1, PhotometricInterpretation='MONOCHROME1')
    ds.add_new('PixelPaddingValue', 'US', 65531)
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    got = read_picture(tmp_path/'a.dcm')
    assert not got[:3].any() and same(got[3:-3, 3:-3], 255 - GREYS)


@pytest.mark.parametrize('shape,kind,negative', [('INVERSE', 'MONOCHROME2', True), ('IDENTITY', 'MONOCHROME2', False),
    ('INVERSE', 'MONOCHROME1', True), ('IDENTITY', 'MONOCHROME1', True)])
def test_shape_of_the_presentation(tmp_path, shape, kind, negative):
    got = shown(tmp_path, PresentationLUTShape=shape, PhotometricInterpretation=kind)
    assert same(got, 255 - GREYS if negative else GREYS)


@pytest.mark.parametrize('tags', [dict(PresentationIntentType='FOR PROCESSING'),
    dict(SOPClassUID='1.2.840.10008.5.1.4.1.1.1.1.1')])
def test_raw_pixels_are_refused(tmp_path, tags):
    with pytest.raises(ValueError, match='FOR PROCESSING.*export the picture FOR PRESENTATION'): shown(tmp_path, **tags)
    assert same(shown(tmp_path, **tags | dict(PresentationIntentType='FOR PRESENTATION')), GREYS)


# -- one odd tag -------------------------------------------------------------------------------------------------------

GREY_TAGS = ('WindowCenter', 'WindowWidth', 'RescaleSlope', 'RescaleIntercept')
ODD = ['', '  ', 'abc', '2047,5', 'nan', '1\\abc', 'x'*70]


@pytest.mark.parametrize('tag', GREY_TAGS)
@pytest.mark.parametrize('text', ODD)
def test_an_odd_number_is_left_aside(tmp_path, tag, text):
    pairs = dict(WindowCenter=2047.5, WindowWidth=4095) if 'Window' in tag else dict(RescaleSlope=1, RescaleIntercept=0)
    ds = dicoms.misspell(dicoms.radiograph(TWELVE, **BITS, **pairs), **{tag: text})
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    with pytest.warns(OddTagWarning) as said: got = read_picture(tmp_path/'a.dcm')
    assert same(got, GREYS) and len(said) == 1
    assert str(said[0].message).startswith(str(tmp_path/'a.dcm')) and f"{tag} '" in str(said[0].message)


@pytest.mark.parametrize('tags', [dict(PixelPaddingValue=None), dict(PresentationLUTShape='ODD'), dict(RescaleSlope=0),
    dict(WindowCenter=[1, 2], WindowWidth=[0, 2]), dict(VOILUTSequence=dicoms.table([], 12))])
def test_other_odd_tags_are_left_aside(tmp_path, tags):
    dicoms.write(tmp_path/'a.dcm', TWELVE, **BITS, **tags)
    with pytest.warns(OddTagWarning, match=next(iter(tags))): assert same(read_picture(tmp_path/'a.dcm'), GREYS)


def test_slope_without_intercept(tmp_path):
    window = dict(WindowCenter=4095, WindowWidth=8190, VOILUTFunction='LINEAR_EXACT')
    assert same(shown(tmp_path, RescaleSlope=2, **window), GREYS)


def test_each_of_many_files_is_named_and_the_filters_stay(tmp_path):
    "Several threads read at once"
    names = [f'{i}.dcm' for i in range(40)]
    for name in names: dicoms.write(tmp_path/name, TWELVE, **BITS, PresentationLUTShape='ODD')
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        before = list(warnings.filters)
        list(scan_files(tmp_path, names, 'reading', 8))
        assert warnings.filters == before and threading.active_count() < 20
    assert sorted(str(w.message).split(':')[0] for w in said) == sorted(str(tmp_path/name) for name in names)


LOCATED = SimpleNamespace(box=(1., 2., 9., 12.), others=[], study_prob=.8, threshold=.5)
LEFT_OUT = dict(StudyDate='20250230', PatientBirthDate='19500000', StudyTime='256000', PatientOrientation='L',
    PatientSex='X', AccessionNumber='9'*17, PatientName='a\\b', BodyPartExamined='Wrist joint', StudyID='x'*70)


@pytest.mark.parametrize('tag', LEFT_OUT)
def test_derived_files_leave_out_what_cannot_be_written(tmp_path, tag):
    from mura_nb.dicom import dicom_files
    ds = dicoms.misspell(dicoms.radiograph(TWELVE, **BITS, StudyDescription='hand'), **{tag: LEFT_OUT[tag]})
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    rgb = np.zeros((16, 16, 3), np.uint8)
    with pytest.warns(OddTagWarning, match=f'a.dcm: left out.*{tag} '):
        written, why = dicom_files(tmp_path/'a.dcm', LOCATED, rgb, tmp_path/'a.png')
    assert why == '' and [f.name for f in written] == ['a.capture.dcm', 'a.state.dcm']
    for f in written:
        derived = pydicom.dcmread(f)
        assert not derived.get(tag) and derived.StudyInstanceUID == '1.2.3' and derived.PatientID == '1'


def test_what_no_reader_understands_does_not_stop_derived_files(tmp_path):
    from mura_nb.dicom import dicom_files
    odd = dict(PatientWeight='heavy', SeriesNumber='a', NumberOfFrames='', ImagerPixelSpacing='?', KVP='four')
    dicoms.misspell(dicoms.radiograph(TWELVE, **BITS), **odd).save_as(tmp_path/'a.dcm', enforce_file_format=True)
    kvp = b'\x18\0\x60\0'
    data = (tmp_path/'a.dcm').read_bytes().replace(kvp + b'DS', kvp + b'FD') # a number of half its bytes
    (tmp_path/'a.dcm').write_bytes(data)
    assert same(read_picture(tmp_path/'a.dcm'), GREYS)
    with pytest.warns(OddTagWarning, match='KVP'):
        written, why = dicom_files(tmp_path/'a.dcm', LOCATED, np.zeros((16, 16, 3), np.uint8), tmp_path/'a.png')
    assert (len(written), why) == (2, '')


@pytest.mark.parametrize('tags', [dict(), dict(WindowCenter=2048, WindowWidth=4096)])
def test_a_state_shows_the_table_as_it_was_judged(tmp_path, tags):
    from mura_nb.dicom import dicom_files
    dicoms.write(tmp_path/'a.dcm', TWELVE, **BITS, VOILUTSequence=dicoms.table(np.arange(4096), 16), **tags)
    rgb = np.zeros((16, 16, 3), np.uint8)
    (state,), why = dicom_files(tmp_path/'a.dcm', LOCATED, rgb, tmp_path/'a.png', 'presentation')
    voi = pydicom.dcmread(state).SoftcopyVOILUTSequence[0]
    assert why == '' and voi.VOILUTSequence[0].LUTDescriptor[2] == 12 and 'WindowCenter' not in voi


def test_a_state_is_a_negative_where_the_picture_is(tmp_path):
    from mura_nb.dicom import presentation_state, reference_dataset
    dicoms.write(tmp_path/'a.dcm', framed(TWELVE, 0), **BITS, PresentationLUTShape='INVERSE', PixelPaddingValue=0)
    state = presentation_state(reference_dataset(tmp_path/'a.dcm'), (1, 2, 9, 12), 'x')
    assert state.PresentationLUTShape == 'INVERSE'


# -- the right reason --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('tag', ['PhotometricInterpretation', 'BitsStored', 'Rows'])
def test_a_missing_tag_is_named(tmp_path, tag):
    ds = dicoms.radiograph(TWELVE, **BITS)
    del ds[tag]
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    with pytest.raises(ValueError, match=f'DICOM without {tag},'): read_picture(tmp_path/'a.dcm')


def test_floating_point_pixels_are_named(tmp_path):
    ds = dicoms.radiograph(TWELVE, FloatPixelData=TWELVE.astype(np.float32).tobytes())
    del ds.PixelData
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    with pytest.raises(ValueError, match='floating-point pixels .FloatPixelData.'): read_picture(tmp_path/'a.dcm')


def headless(file, implicit=False, meta=False):
    "A DICOM file without preamble, and without what says how it is encoded"
    ds = dicoms.radiograph(TWELVE, **BITS)
    if implicit: ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(stream := io.BytesIO(), enforce_file_format=True)
    data = stream.getvalue()
    length = int.from_bytes(data[140:144], 'little') + 144
    file.write_bytes(data[132 if meta else length:])
    return file


@pytest.mark.parametrize('implicit', [False, True])
@pytest.mark.parametrize('meta', [False, True])
def test_without_preamble(tmp_path, implicit, meta):
    from mura_nb.dicom import reference_dataset
    from mura_nb.studies import picture_size
    file = headless(tmp_path/'IM1', implicit, meta)
    assert kind_of_file(file) and same(read_picture(file), GREYS) and picture_size(file) == (16, 16)
    assert reference_dataset(file).StudyInstanceUID == '1.2.3'


@pytest.mark.parametrize('data', [b'', b'\x08\0', bytes(200), b'\x08\0'*100, b'\x08\0\5\0' + bytes(200),
    b'\2\0\0\0ul\4\0' + bytes(200), b'path,label\na.png,1\n', b'II*\0' + bytes(200)])
def test_others_are_no_dicom(data): assert not is_dicom(data)


def test_header_of_a_file_with_small_letters_and_without_preamble(tmp_path):
    from mura_nb.batch import views_of
    small = dicoms.misspell(dicoms.radiograph(TWELVE, **BITS), Modality='dx')
    small.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    headless(tmp_path/'b.dcm')
    views, unread = views_of([tmp_path/'a.dcm', tmp_path/'b.dcm'])
    assert not unread and list(views.key) == ['1.2.3', '1.2.3']


def test_a_decoder_that_is_not_installed_is_named():
    from pydicom.data import get_testdata_file
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit
    file = get_testdata_file('JPEG-lossy.dcm', download=False)
    if 'pylibjpeg' in get_decoder(JPEGExtended12Bit).available_plugins: assert read_picture(file).max() > 0
    else:
        with pytest.raises(ValueError, match='12 bits in JPEG Extended.*pylibjpeg-libjpeg'): read_picture(file)


# -- turned pictures ---------------------------------------------------------------------------------------------------

TURNS = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose,
    6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}
SMOOTH = np.add.outer(np.arange(40)*3, np.arange(64)*2).astype(np.uint8)


def turned(file, tag):
    exif = Image.Exif()
    exif[274] = tag
    Image.fromarray(SMOOTH).save(file, exif=exif, **dict(quality=95) if file.suffix == '.jpg' else {})
    return file


@pytest.mark.parametrize('tag', TURNS)
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif'])
def test_a_picture_is_turned_as_its_file_says(tmp_path, tag, suffix):
    from mura_nb.studies import picture_size, read_view
    file = turned(tmp_path/f'a{suffix}', tag)
    assert same(read_picture(file), TURNS[tag](SMOOTH), 3)
    assert picture_size(file) == read_view(file).picture.shape == TURNS[tag](SMOOTH).shape


def test_boxes_and_overlays_are_those_of_the_turned_picture(tmp_path, monkeypatch):
    from mura_nb import batch
    def localise(pictures, *_):
        pictures = [p for _, p in pictures]
        at = [np.unravel_index(p.argmin(), p.shape) for p in pictures]
        return [SimpleNamespace(image=p, heatmap=None, box=(x, y, x + 6, y + 9), others=[], called=True, prob=.9,
            study_prob=.9, threshold=.5, why='', unusual='') for p, (y, x) in zip(pictures, at)]
    monkeypatch.setattr('mura_nb.gradcam.localise', localise)
    monkeypatch.setattr('mura_nb.networks.picture_networks', lambda model: model)
    views, _ = batch.views_of([turned(tmp_path/'a.jpg', 6)])
    row = batch.locate_studies(views, tmp_path/'out').boxes.iloc[0]
    overlay = np.asarray(Image.open(row.overlay)).astype(int)
    assert overlay.shape == (64, 40, 3) and os.path.isfile(tmp_path/'out'/'boxes.csv')
    assert row.x0 > 30 and row.y0 < 9 # the file's upper left corner is above on the right
    x, y = int(row.x0), int(row.y0) + 5
    assert np.ptp(overlay[y, x]) > 50 # the line is coloured there
