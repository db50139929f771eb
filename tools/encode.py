"""Encode the training images into database.hdf5 outside the notebooks, in one process or in several:

    .venv/bin/accelerate launch --multi_gpu --num_processes 2 --num_machines 1 tools/encode.py --processes 2 [--recipe RECIPE] [--half] [--overwrite]

MURA_NB_PROFILE and MURA_NB_DATA choose profile and radiographs, as in make report. Chapter 8, "Encoding a dataset", says more."""
import argparse, os


def arguments():
    "The command line; an error where fewer processes were started than asked for"
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0][:-1])
    p.add_argument('--recipe', help='whose network makes the codes, default the baseline of the profile')
    p.add_argument('--out', help='the file, default database.hdf5 of the results')
    p.add_argument('--half', action='store_true', help='codes in half precision')
    p.add_argument('--overwrite', action='store_true', help='replace a file that holds codes of other images or of another network')
    p.add_argument('--batch-size', type=int, default=32, help='images a batch')
    p.add_argument('--processes', type=int, help='stop unless so many processes were started')
    args,n = p.parse_args(),int(os.environ.get('WORLD_SIZE', 1))
    if args.processes not in (None, n): p.error(f'{args.processes} processes were asked for, {n} started; accelerate launch starts several with --multi_gpu, also on processors')
    return args


def main(args):
    from mura_nb.baselines import first_process, processes
    from mura_nb.data import load_data
    from mura_nb.retrieval import encode, load_encoder
    n = processes()
    if first: print(f'processes: {n}', flush=True)
    with first_process(): df,store,_ = load_data() # the first makes the image store
    train = df[(df.split=='train') & df.label.notna()]
    db = encode(train, store, load_encoder(args.recipe), args.out, 'half' if args.half else 'single', args.batch_size, overwrite=args.overwrite)
    if first: print(f'{db.path}: {len(db)} codes of {db.width} numbers', flush=True)


if __name__=='__main__':
    args,first = arguments(),os.environ.get('RANK', '0')=='0'
    if not first: os.environ['TQDM_DISABLE'] = '1' # one progress bar; tqdm reads this when it is imported
    main(args)
