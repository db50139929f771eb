"A parser under atheris: python -m torture.guided dicom|list|settings [libFuzzer's options]"

import os, sys, tempfile
import atheris
from . import ROOT

sys.path[:0] = [str(ROOT)]
os.environ['MURA_NB_PROFILE'] = 'smoke'
with atheris.instrument_imports(
    include=['mura_nb.lists', 'mura_nb.images', 'mura_nb.dicom_grey', 'mura_nb.headers', 'mura_nb.core', 'pydicom']
):
    import mura_nb.headers
    from mura_nb.settings import SettingError, settings
    from mura_nb.images import scan_file
    from mura_nb.lists import list_fields

FILE = tempfile.NamedTemporaryFile()


def seen(read, *errors):
    "Called with each input: the bytes of a file"

    def called(data):
        with open(FILE.name, 'wb') as f:
            f.write(data)
        try:
            read(FILE.name)
        except errors:
            pass

    return called


def dicom(file):
    scan_file(file), mura_nb.headers.header(file)


KINDS = dict(
    dicom=seen(dicom), list=seen(list_fields, ValueError), settings=seen(lambda f: settings('smoke', f), SettingError)
)

if __name__ == '__main__':
    from .inputs import originals
    from .kills import SETTINGS

    kind = sys.argv.pop(1)
    starts = dict(
        dicom=[d for k, d in originals().items() if k.startswith('DICOM')],
        settings=[SETTINGS.encode()],
        list=[b'path,label\na.png,1\n', b'sep=;\nfile;study\n"a.png";s\n'],
    )[kind]
    with tempfile.TemporaryDirectory() as corpus:
        for i, data in enumerate(starts):
            open(f'{corpus}/{i}', 'wb').write(data)
        atheris.Setup([*sys.argv, corpus], KINDS[kind])
        atheris.Fuzz()
