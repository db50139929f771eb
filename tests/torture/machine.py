"""The machine lacks something: disk, rights, file handles, memory; or two reports run at once.

What must come of each is written in tests/; here these tests are counted for the page."""

from collections import defaultdict
import pytest
from . import summary

FILES = ('test_small_disk.py', 'test_two_reports.py')
KINDS = {
    'what was there stays, nothing half is left, the same again goes on': (
        'test_nothing_half_is_left',
        'test_what_was_there_stays',
        'test_the_same_again_goes_on',
    ),
    'full disk: an error that says so': ('test_full_disk', 'test_a_file_larger_than_is_allowed'),
    'a folder that may only be read: an error that says so': ('test_read_only',),
    'no file handles left: an error that says so': ('test_no_file_handles',),
    'a process ended, or out of memory: an error that says so': ('test_an_ended_process', 'test_a_loader_process'),
    'two reports at once: the second waits': ('test_the_second_waits_until_the_first_has_ended',),
    'several writers of one table: no row is lost': ('test_headlines_of_writers_at_once',),
}
WHAT = {test: what for what, tests in KINDS.items() for test in tests}


class Count:
    "A plugin of pytest: what -> how many were tried, how many passed"

    def __init__(self):
        self.found = defaultdict(lambda: [0, 0])

    def pytest_runtest_logreport(self, report):
        name = report.location[2].partition('[')[0]
        if name in WHAT and (report.failed or report.when == 'call' and not report.skipped):
            self.found[WHAT[name]][0] += 1
            self.found[WHAT[name]][1] += report.passed


def main(tried=None, seed=None):
    "All of them; there is nothing to draw, so both arguments are not used"
    count = Count()
    pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:randomly', *FILES], plugins=[count])
    summary('machine', [(what, *n) for what, n in count.found.items()], 0)
    return bool(count.found) and all(tried == right for tried, right in count.found.values())
