"""Training speed in profile paper's settings, on simulated radiographs: `gpu_speed.py TABLE SECONDS [cpu]`.

As many studies are simulated as a quarter of the time allows; the recipes follow in order until the time is over.
`cpu` takes small sizes, to try it out on a processor."""
import os, sys, tempfile, time
from dataclasses import replace
from datetime import date
from pathlib import Path
import pandas as pd, torch
from mura_nb.ablations import device_name
from mura_nb.settings import settings
from mura_nb.data import image_store, mura_index, patient_split, train_dls
from mura_nb.phantom import make_phantom
from mura_nb.rehearsal import TIMED, WARM_UP, training_speed
from mura_nb.training import loader_speed

RECIPES = ['resnet50_b16', 'densenet169_b16', 'densenet169_b64']
A_CORE = 9/2.7  # studies that a core simulates in a second

def dataset(folder, studies):
    "Index, tuning split and store of simulated radiographs with long side 512"
    df = mura_index(make_phantom(Path(folder)/'phantom', studies, size=512, valid_frac=.05))
    return df, patient_split(df), image_store(df, folder=Path(folder)/'store')

def measured(recipe, df, tune, store, workers, small):
    "Images a second of the loader alone, of the step alone and of both together, and memory"
    if torch.cuda.is_available(): torch.cuda.reset_peak_memory_stats()
    steps = (1, 2) if small else (WARM_UP, TIMED)
    shuffled = df[~tune & (df.split == 'train')].sample(frac=1, random_state=0)
    speed = training_speed(recipe, shuffled, store, *steps, workers)
    memory = torch.cuda.max_memory_allocated()/2**30 if torch.cuda.is_available() else None
    loader = loader_speed(train_dls(df, tune, store, recipe, workers=workers), steps[1]).images_per_s[0]
    return dict(loader_images_s=loader, step_images_s=speed['step'], both_images_s=speed['both'], memory_gib=memory)

def main(table, seconds, small=False):
    begin, cores, rows = time.time(), len(os.sched_getaffinity(0)), []
    workers = 0 if small else min(8, cores)
    studies = 28 if small else max(100, min(4000, int(seconds/4*cores*A_CORE)))
    with tempfile.TemporaryDirectory() as folder:
        data = dataset(folder, studies)
        about = dict(studies=studies, images=len(data[0]), cores=cores, workers=workers, device=device_name(),
            torch=torch.__version__, date=date.today().isoformat())
        for name in RECIPES:
            for precision in ('tf32', 'bfloat16'):
                start = time.time()
                if rows and start-begin+1.2*rows[-1]['seconds'] > seconds: return
                recipe = replace(settings().recipe(name), precision=precision)
                if small: recipe = replace(recipe, batch_size=4, resize=40, crop=32)
                speed = measured(recipe, *data, workers, small)
                shown = {k: getattr(recipe, k) for k in ('backbone', 'precision', 'batch_size', 'crop')}
                rows.append(shown | speed | about | dict(seconds=time.time()-start))
                pd.DataFrame(rows).to_csv(table, index=False, float_format='%.4g')

if __name__ == '__main__': main(sys.argv[1], float(sys.argv[2]), sys.argv[3:] == ['cpu'])
