"Radiographs as hospitals keep them: what is shown on a screen is what the networks see."
import numpy as np, pytest
from pydicom.data import get_testdata_file
from mura_nb.images import kind_of_file, picture_files, read_picture
from mura_nb.layout import walk_files
import dicoms


def sample(name): return get_testdata_file(name, download=False)


@pytest.mark.parametrize('packed,plain', [
    ('RG1_J2KR.dcm', 'RG1_UNCR.dcm'), ('RG3_J2KR.dcm', 'RG3_UNCR.dcm'), *((f'MR_small_{how}.dcm', 'MR_small.dcm')
    for how in ('RLE', 'jp2klossless', 'jpeg_ls_lossless', 'bigendian', 'implicit'))])
def test_lossless_syntaxes_show_the_same(packed, plain):
    np.testing.assert_array_equal(read_picture(sample(packed)), read_picture(sample(plain)))


@pytest.mark.parametrize('name', ['RG1_J2KI.dcm', 'JPGLosslessP14SV1_1s_1f_8b.dcm', 'JPEG-LL.dcm',
    'JPEGLSNearLossless_16.dcm', 'SC_rgb_jpeg_dcmtk.dcm', 'SC_ybr_full_422_uncompressed.dcm',
    'examples_palette.dcm', 'image_dfl.dcm', 'mlut_18.dcm', 'vlut_04.dcm', 'SC_rgb_rle_32bit.dcm', 'ExplVR_BigEnd.dcm'])
def test_many_kinds_are_read(name):
    a = read_picture(sample(name))
    assert a.dtype == np.uint8 and a.ndim == 2 and a.max() > a.min()


def test_as_another_reader_shows_it():
    "Window and inversion of a real computed radiograph, beside a second implementation"
    from highdicom import imread
    for name in 'RG1_UNCR.dcm', 'RG3_UNCR.dcm':
        theirs = 255*imread(sample(name)).get_frame(1, apply_voi_transform=True, apply_presentation_lut=True)
        assert np.abs(theirs - read_picture(sample(name))).max() <= .51


@pytest.mark.parametrize('name,words', [
    ('emri_small.dcm', '10 frames'), ('reportsi.dcm', 'without pixels .modality SR'),
    ('MR_truncated.dcm', 'number of bytes'), ('rtstruct.dcm', 'without pixels .modality RTSTRUCT'),
    ('badVR.dcm', '1A')])
def test_others_are_refused_by_name(name, words):
    with pytest.raises(ValueError, match=f'{name}: cannot be read: .*{words}'): read_picture(sample(name))


def test_padding_is_not_black_or_white(tmp_path):
    a = np.full((8, 8), 65535, np.uint16)
    a[2:6, 2:6] = np.arange(100, 116).reshape(4, 4)
    got = read_picture(dicoms.write(tmp_path/'a.dcm', a, PixelPaddingValue=65535))
    assert got[2, 2] == 0 and got[5, 5] == 255 and got[3, 3] == round(255*5/15)


def test_a_bomb_is_not_unpacked(tmp_path):
    ds = dicoms.radiograph(np.zeros((2, 2), np.uint8), Rows=60000, Columns=60000)
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    with pytest.raises(ValueError, match='3,600,000,000 pixels'): read_picture(tmp_path/'a.dcm')


def test_pictures_of_a_folder(tmp_path):
    a = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in 'IM10', 'IM2', '1.2.840.113', 'x.dcm': dicoms.write(tmp_path/name, a)
    dicoms.write(tmp_path/'y.txt', a)
    for name in 'notes', '.dcm', '._x.dcm', 'list.csv': (tmp_path/name).write_text('no picture')
    (tmp_path/'folder.png').mkdir()
    assert [f.name for f in picture_files(tmp_path)] == ['IM2', 'IM10', 'x.dcm', 'y.txt', '1.2.840.113']
    np.testing.assert_array_equal(read_picture(tmp_path/'IM2'), a)
    assert not kind_of_file(tmp_path/'notes')


RAMP = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)


def shown(tmp_path, a=RAMP, **tags):
    bits = dict(BitsStored=12, HighBit=11) if a.dtype == np.uint16 else {}
    return read_picture(dicoms.write(tmp_path/'a.dcm', a, **bits | tags))


def test_a_negative_slope_turns_the_picture(tmp_path):
    window = dict(WindowCenter=2048, WindowWidth=4096)
    up = shown(tmp_path, RescaleSlope=1, RescaleIntercept=0, **window)
    down = shown(tmp_path, RescaleSlope=-1, RescaleIntercept=4095, **window)
    assert up[0, 0] == 0 and up[-1, -1] == 255 and np.abs(255. - down - up).max() <= 1


@pytest.mark.parametrize('tags', [
    dict(WindowCenter=100, WindowWidth=0), dict(WindowCenter=100, WindowWidth=.5),
    dict(WindowCenter=[100, 50], WindowWidth=[-3, 100]), dict(WindowWidth=100),
    dict(WindowCenter=1, WindowWidth=9, VOILUTFunction='ODD')])
def test_a_window_that_means_nothing_is_left_aside(tmp_path, tags):
    np.testing.assert_array_equal(shown(tmp_path, **tags), shown(tmp_path))


def test_padding_is_a_stored_value(tmp_path):
    a = RAMP.copy()
    a[0] = 4000
    a[1:] = np.linspace(100, 200, 56).reshape(7, 8)
    rescales = ({}, dict(RescaleSlope=1, RescaleIntercept=-1000))
    plain, scaled = (shown(tmp_path, a, PixelPaddingValue=4000, **tags) for tags in rescales)
    np.testing.assert_array_equal(plain, scaled)
    assert plain[1, 0] == 0 and plain[-1, -1] == 255


def test_missing_tags_that_have_one_meaning(tmp_path):
    import pydicom
    ds = pydicom.dcmread(dicoms.write(tmp_path/'a.dcm', RAMP, BitsStored=12, HighBit=11))
    want = read_picture(tmp_path/'a.dcm')
    del ds.PixelRepresentation
    ds.save_as(tmp_path/'b.dcm')
    np.testing.assert_array_equal(read_picture(tmp_path/'b.dcm'), want)


def test_tiff_that_says_white_is_zero_and_tiff_of_many_pages(tmp_path):
    from PIL import Image
    a = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)*1000)
    a.save(tmp_path/'black.tif')
    data = bytearray((tmp_path/'black.tif').read_bytes())
    at = data.index((262).to_bytes(2, 'little') + (3).to_bytes(2, 'little')) + 8
    data[at] = 0
    (tmp_path/'white.tif').write_bytes(data)
    assert np.abs(255 - read_picture(tmp_path/'white.tif').astype(int) - read_picture(tmp_path/'black.tif')).max() <= 1
    a.save(tmp_path/'two.tif', save_all=True, append_images=[a])
    with pytest.raises(ValueError, match='2 pages'): read_picture(tmp_path/'two.tif')


def test_folders_that_lead_round_and_files_that_never_end(tmp_path):
    import os
    dicoms.write(tmp_path/'IM1', RAMP, BitsStored=12, HighBit=11)
    (tmp_path/'again').symlink_to(tmp_path)
    (tmp_path/'loop').symlink_to(tmp_path/'loop')
    os.mkfifo(tmp_path/'pipe')
    assert walk_files(tmp_path) == ['IM1', 'loop', 'pipe'] and [f.name for f in picture_files(tmp_path)] == ['IM1']
