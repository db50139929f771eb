"""Train and predict recipes of settings.ini outside the notebooks, in one process or in several:

    .venv/bin/accelerate launch --multi_gpu --num_processes 2 --num_machines 1 tools/train.py --processes 2 RECIPE [RECIPE ...]

MURA_NB_PROFILE and MURA_NB_DATA choose profile and radiographs, as in make report. Chapter 4, "Several processes", says more."""
import argparse, os


def arguments():
    "The command line; an error where fewer processes were started than asked for"
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0][:-1])
    p.add_argument('recipe', nargs='+', help='names of [recipe NAME] sections')
    p.add_argument('--processes', type=int, help='stop unless so many processes were started')
    args,n = p.parse_args(),int(os.environ.get('WORLD_SIZE', 1))
    if args.processes not in (None, n): p.error(f'{args.processes} processes were asked for, {n} started; accelerate launch starts several with --multi_gpu, also on processors')
    return args


def main(names):
    from mura_nb.baselines import first_process, processes, run_recipe
    from mura_nb.core import settings
    from mura_nb.data import load_data, patient_split
    n,s = processes(),settings()
    recipes = [s.recipe(r) for r in names]
    if fused := [r.name for r in recipes if r.heatmap]: raise SystemExit(f"{', '.join(fused)}: a recipe of FuseNet; chapter 5 trains it (make report), in one process")
    if first: print(f'processes: {n}', flush=True)
    with first_process(): df,store,_ = load_data() # the first makes the image store
    tune = patient_split(df, s.tune_frac, s.seed)
    for r in recipes:
        m = run_recipe(r, df, store, tune)['metrics']
        if first: print(f"{r.name}: tuning loss {m['tune_loss']:.4f}, AUC of valid {m['valid']['auc']:.3f}", flush=True)


if __name__=='__main__':
    args,first = arguments(),os.environ.get('RANK', '0')=='0'
    if not first: os.environ['TQDM_DISABLE'] = '1' # one progress bar; tqdm reads this when it is imported
    main(args.recipe)
