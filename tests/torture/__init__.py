"""make torture: kills, bad input, fuzzing, full disks and the like, mutants; tables go to results/torture.

A run of mutants that was stopped goes on where its rows end; the others begin anew."""

import os, signal, subprocess, time, traceback
from datetime import date
from importlib.metadata import version
from pathlib import Path
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT/'results'/'torture'


def git(*args):
    return subprocess.check_output(['git', '-C', ROOT, *args], text=True).strip()


def tree():
    "The commit that is tried, with a + where files were changed since"
    changed = git('status', '--porcelain', '--untracked-files=no', '--', 'mura_nb', 'tools', 'settings.ini')
    return git('rev-parse', 'HEAD')[:12] + '+' * bool(changed)


COMMIT = tree()  # as it begins


def summary(name, rows, seed, commit=None):
    "Write the table of one kind of torture: what was tried, how often, and how often all was as it should be"
    table = pd.DataFrame(rows, columns=['what', 'tried', 'as it should be'])
    TABLES.mkdir(parents=True, exist_ok=True)
    about = dict(mura_nb=version('mura_nb'), commit=commit or COMMIT, date=date.today().isoformat(), seed=seed)
    table.assign(**about).to_csv(TABLES / f'{name}.csv', index=False)
    print(table.to_string(index=False))
    return table


def child(function, *args, log=None):
    "Fork: a process of its own session that calls `function` and ends with 0, or with 1 after an error; its number"
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        if log:
            [os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), i) for i in (1, 2)]
        function(*args)
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else bool(e.code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid, seconds):
    "How a child ended: its exit status, minus the number of a signal, None where it had to be killed after a time"
    end = time.time() + seconds
    while time.time() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    kill(pid)
    os.waitpid(pid, 0)
    return None


def kill(pid):
    "The process and those of its session"
    for end in (os.killpg, os.kill):
        try:
            end(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
