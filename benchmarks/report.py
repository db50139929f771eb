"""Where do the minutes go, from a clone to the first picture and to the whole report?

`make report` notes what each chapter took, from nothing and from kept results; these are the sums of profile demo's
last run, as they are and in proportion to a machine that trains Lite0 at 40 images/s at 224 px. There the design
allows 75 minutes; a third less is wanted. A chapter whose results are kept loads them. To be run on the machine that
has made the report."""
import os, tempfile
from pathlib import Path
from bench import ROOT, plain_row, save, small, threads
import pandas as pd
from mura_nb.core import timed

FIRST_PICTURE, WHOLE, AGAIN = 1, 75, 10  # minutes
NAMED = 40  # images/s of the machine that the minutes are allowed on


def first_picture():
    "Minutes until a folder with nothing in it has a simulated radiograph as a file"
    from mura_nb.phantom import example_study
    from PIL import Image
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(example_study('WRIST', 'fracture', 3)[0][0].image).save(Path(folder)/'first.png')


def training_speed(steps=12):
    "Images/s of Lite0's bare training step at 224 px in batches of 16, as the median of some"
    import timm, torch
    from mura_nb.core import keep_memory
    keep_memory()
    torch.set_num_threads(threads())
    net = timm.create_model('tf_efficientnet_lite0', num_classes=1).to(memory_format=torch.channels_last).train()
    x, opt = torch.randn(16, 3, 224, 224).to(memory_format=torch.channels_last), torch.optim.Adam(net.parameters())

    def step():
        opt.zero_grad()
        net(x).mean().backward()
        opt.step()
    return 16/sorted(timed(step)[1] for _ in range(steps))[steps//2]


def main():
    rows = [plain_row('a first simulated radiograph, without installing', timed(first_picture)[1]/60, 'at most',
        FIRST_PICTURE, 1, unit='min')]
    file = Path(os.environ.get('MURA_BENCH_MINUTES') or ROOT/'results'/'demo'/'tables'/'report_minutes.csv')
    t = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=['chapter', 'first', 'again'])
    whole = set(t.chapter) >= {'04_baselines', '05_fusenet', '16_speed'} or small(False, True)
    if whole and t['first'].sum() > 0:
        whole_minutes, speed = t['first'].sum(), training_speed(small(12, 3))
        rows.append(plain_row(f'the whole report from nothing, here ({speed:.0f} images/s at 224 px)', whole_minutes,
            'allowed by the design on a faster machine', WHOLE, unit='min', count=len(t)))
        rows.append(plain_row(f'the whole report from nothing, in proportion to {NAMED} images/s',
            whole_minutes*speed/NAMED, 'allowed by the design', WHOLE, 1.5, unit='min', count=len(t)))
    if whole and t['again'].sum() > 0:
        rows.append(plain_row('the whole report from kept results', t['again'].sum(), 'at most', AGAIN, 1, unit='min',
            count=len(t)))
    save('report', rows)


if __name__ == '__main__': main()
