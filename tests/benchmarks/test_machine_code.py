# SPDX-License-Identifier: Apache-2.0
"""Count the instructions of loops in listings that are written by hand."""

import pytest

from benchmarks import machine_code
from benchmarks.sass import find_loops, read

LISTING = """
.text.kernel:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/               @P0 EXIT ;
.L_x_1:
        /*0020*/                   LDG.E.U16 R1, desc[UR4][R2.64] ;
        /*0030*/                   BSSY B0, `(.L_x_3) ;
        /*0040*/              @!P1 BRA `(.L_x_4) ;
.L_x_2:
        /*0050*/                   LDG.E.128 R4, desc[UR4][R2.64+0x10] ;
        /*0060*/                   FFMA R1, R4, R5, R1 ;
        /*0070*/                   IADD3 R2, P2, R2, 0x20, RZ ;
        /*0080*/               @P3 BRA `(.L_x_2) ;
        /*0090*/                   BSYNC B0 ;
.L_x_4:
        /*00a0*/                   MUFU.EX2 R1, R1 ;
        /*00b0*/                   BSYNC B0 ;
.L_x_3:
        /*00c0*/                   STG.E desc[UR4][R2.64], R1 ;
        /*00d0*/                   BRA.U UP0, `(.L_x_1) ;
        /*00e0*/                   EXIT ;
.L_x_5:
        /*00f0*/                   BRA `(.L_x_5);
"""


def loops(listing=LISTING):
    code, labels = read(listing)['kernel']
    return find_loops(code, labels)


def test_nested_loops_are_found():
    whole = loops()
    assert [loop.header for loop in whole.chain()] == [0, 0x20, 0x50]
    assert [loop.total() for loop in whole.chain()] == [15, 12, 4]
    assert whole.own == {'integer': 1, 'branch': 2}


def test_instructions_are_of_their_kinds():
    outer, inner = loops().chain()[1:]
    assert inner.own == {'load 128': 1, 'float': 1, 'integer': 1, 'branch': 1}
    assert outer.own == {'load 16': 1, 'special': 1, 'store 32': 1, 'branch': 5}


def test_an_element_is_a_share_of_the_passes(monkeypatch):
    monkeypatch.setitem(machine_code.ELEMENTS, 'kernel<*>', ('pixel', (0, 1 / 2, 3)))
    counted = machine_code.per_element('kernel<float>', loops())
    assert counted['per_element'] == 8 / 2 + 3 * 4
    assert counted['kinds']['load 16'] == 0.5
    assert counted['kinds']['load 128'] == 3


def test_loops_that_went_missing_are_named(monkeypatch):
    monkeypatch.setitem(machine_code.ELEMENTS, 'kernel', ('pixel', (0, 0, 0, 1)))
    with pytest.raises(
        ValueError, match='kernel: expected 3 nested loops, as in ELEMENTS, got 2'
    ):
        machine_code.per_element('kernel', loops())


def test_a_computed_jump_is_refused():
    with pytest.raises(
        ValueError, match='expected jumps to labels, got BRX R2 .* 0x90'
    ):
        loops(LISTING.replace('BSYNC B0', 'BRX R2 -0x50', 1))


def test_a_table_shows_widths():
    kernel = dict(registers=40, spilled=0, shared=0, instructions=15)
    kinds = {'branch': 1.0, 'load 16': 0.5, 'load 128': 3.0}
    named = kernel | dict(element='pixel', per_element=4.5, kinds=kinds)
    *_, first, second = machine_code.table({'a': kernel, 'b': named}).splitlines()
    assert first.startswith('| `a` | 40 | 0 | 0 | 15 |  |')
    assert '| **4.5** | 3.5 (16: 0.5, 128: 3.0) |' in second
