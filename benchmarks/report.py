"""Where do the minutes go, from a clone to the first picture and to the whole report?

`make report` notes what each chapter took, from nothing and from kept results; these are the sums of profile demo's
last run. A third less than the 75 minutes that the design allows is wanted; a chapter whose results are kept loads
them."""
import os, tempfile
from pathlib import Path
from bench import ROOT, plain_row, save, small
import pandas as pd
from mura_nb.core import timed

FIRST_PICTURE, WHOLE, AGAIN = 1, 75, 10  # minutes


def first_picture():
    "Minutes until a folder with nothing in it has a simulated radiograph as a file"
    from mura_nb.phantom import example_study
    from PIL import Image
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(example_study('WRIST', 'fracture', 3)[0][0].image).save(Path(folder)/'first.png')


def main():
    rows = [plain_row('a first simulated radiograph, without installing', timed(first_picture)[1]/60, 'at most',
        FIRST_PICTURE, 1, unit='min')]
    file = Path(os.environ.get('MURA_BENCH_MINUTES') or ROOT/'results'/'demo'/'tables'/'report_minutes.csv')
    t = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=['chapter', 'first', 'again'])
    whole = set(t.chapter) >= {'04_baselines', '05_fusenet', '16_speed'} or small(False, True)
    if whole and t['first'].sum() > 0:
        rows.append(plain_row('the whole report from nothing', t['first'].sum(), 'allowed by the design',
            WHOLE, 1.5, unit='min', count=len(t)))
    if whole and t['again'].sum() > 0:
        rows.append(plain_row('the whole report from kept results', t['again'].sum(), 'at most', AGAIN, 1, unit='min',
            count=len(t)))
    save('report', rows)


if __name__ == '__main__': main()
