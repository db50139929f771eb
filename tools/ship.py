"""make shipped: write a trained network, in half precision and with its card, to mura_nb/weights.

tools/ship.py [MODEL] [--name NAME] [--trained-on WORDS] [--claim auc=shipped_auc] [--claim hit=shipped_hit]

MODEL is a recipe's name or the path of a model. Its numbers come from tables/headline.csv of the results in force
or of --results (profile and DATA as everywhere); half precision is compared with single on pictures of
the data in force."""
import argparse
from pathlib import Path

PICTURES = 64  # on which half precision is compared with single

def asked(args=None):
    "What the command line says"
    p = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    p.add_argument('model', nargs='?', help="recipe's name, or path of a model; default the profile's `shipped`")
    p.add_argument('--name', help="on the card; default the recipe's")
    p.add_argument('--trained-on', help='in words; default from the card')
    p.add_argument('--results', type=Path, help='folder whose tables/headline.csv has the numbers')
    p.add_argument('--claim', action='append', default=[], metavar='NAME=CLAIM', help='auc=..., hit=..., or another')
    p.add_argument('--out', type=Path, help='folder; default that of the package')
    return p.parse_args(args)

def pictures():
    "Pictures of the data in force, every so many"
    from mura_nb.data import load_data
    df, store, _ = load_data()
    return [store[p] for p in df.path[::max(1, len(df)//PICTURES)][:PICTURES]]

def main(args=None):
    from mura_nb.settings import settings
    from mura_nb.results import ModelFiles, load_table
    from mura_nb.shipping import CLAIMS, claimed_numbers, ship_model
    a = asked(args)
    a.model = a.model or settings().shipped
    model = Path(a.model) if Path(a.model).with_suffix('.safetensors').is_file() else ModelFiles(a.model).model
    claims = CLAIMS | dict(c.split('=', 1) for c in a.claim)
    numbers = claimed_numbers(load_table('headline', a.results), claims)
    print(ship_model(model, numbers, pictures(), a.out, a.name, a.trained_on))

if __name__ == '__main__': main()
