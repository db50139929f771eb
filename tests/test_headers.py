"A chest, a tomogram or an answer of this project is not judged as a bone of the arm, whichever way it comes."
import pytest
from typer.testing import CliRunner
from mura_nb import programs as P
from mura_nb.batch import views_of
from mura_nb.headers import is_other_part, refusal_of
from mura_nb.studies import read_study
from test_input_check import GREY
import dicoms


@pytest.mark.parametrize('part', ['CHEST', 'chest pa', 'LSPINE', 'T SPINE', 'LOWER LEG', 'Hip', 'SKULL', 'KNEE RT',
    'FEET', 'KNEES', 'CERVICAL', 'LUMBAR SPINE', 'CHESTABDOMEN', 'ABDOMEN PELVIS', 'WHOLE BODY', 'HEADNECK', 'TIBFIB'])
def test_parts_that_networks_have_not_seen(part): assert is_other_part(part)


@pytest.mark.parametrize('part', ['', 'WRIST', 'THUMB', 'UPPER ARM', 'RADIAL HEAD', 'EXTREMITY', 'CHIP',
    'METACARPAL HEAD', 'PHALANX HEAD', 'HANDS FACE'])
def test_parts_that_may_be_of_the_arm(part): assert not is_other_part(part)


def test_a_chest_is_refused_unless_forced(tmp_path):
    dicoms.write(tmp_path/'chest.dcm', GREY, study='1.2.1', BodyPartExamined='CHEST')
    dicoms.write(tmp_path/'hand.dcm', GREY, study='1.2.2', BodyPartExamined='HAND')
    views, unread = views_of([tmp_path])
    assert views.study.tolist() == ['1.2.2'] and [u.path for u in unread] == [str(tmp_path/'chest.dcm')]
    assert unread[0].why == 'body part CHEST, on which no network here was trained; --force judges it all the same'
    forced, unread = views_of([tmp_path], force=True)
    assert sorted(forced.study) == ['1.2.1', '1.2.2'] and not unread
    listed = tmp_path/'list.csv'
    listed.write_text('path,label\nchest.dcm,0\nhand.dcm,1\n')
    assert views_of([listed])[0].path.tolist() == ['hand.dcm'] and len(views_of([listed], force=True)[0]) == 2
    page = read_study([tmp_path/'chest.dcm', tmp_path/'hand.dcm'])
    assert [v.name for v in page.views] == ['hand.dcm'] and 'body part CHEST' in page.problems[0][1]


def test_what_this_project_wrote_is_refused_even_when_forced(tmp_path):
    dicoms.write(tmp_path/'a.dcm', GREY, Manufacturer='mura_nb')
    assert views_of([tmp_path/'a.dcm'], force=True)[1][0].why == 'written by mura_nb, not a radiograph'
    assert refusal_of({}) == ''


@pytest.mark.parametrize('modality', ['CT', 'MG', 'PX', 'IO', 'SR'])
def test_what_shows_no_arm_is_refused_by_its_modality(modality):
    tags = dict(maker='', modality=modality, part='')
    assert refusal_of(tags).startswith(f'modality {modality}, which shows no bone of an arm')
    assert not refusal_of(tags, True)


@pytest.mark.parametrize('command', ['predict', 'locate', 'search'])
def test_the_commands_take_force(tmp_path, monkeypatch, command):
    asked = []
    def views(inputs, one_study=False, force=False):
        asked.append(force)
        raise ValueError('enough')
    monkeypatch.setattr('mura_nb.batch.views_of', views)
    for options in ([], ['--force']): CliRunner().invoke(P.cli, [command, str(tmp_path), *options])
    assert asked == [False, True]
