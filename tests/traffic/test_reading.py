"""Every format, and every kind of broken file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gpu_fleet.traffic import Gaps, RateTrace, Trace, TraceError, read

RECORDED = {
    "azure_llm_2023_code": (Trace, 8_819, 1700158623.97996),
    "azure_llm_2023_conv": (Trace, 19_366, 1700158546.68059),
    "mooncake_conversation": (Trace, 12_031, None),
    "azure_llm_2024_coding_10min": (RateTrace, 1_008, None),
    "nab_elb_request_count": (RateTrace, 4_040, 1397088240.0),
    "servegen_m_large_10min": (RateTrace, 2_016, None),
}


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(("name", "expected"), RECORDED.items())
def test_every_recorded_trace_is_read_by_its_header_alone(shared, tmp_path, name, expected):
    kind, count, starts_at = expected
    # Under another name and suffix: nothing but the content may decide.
    copy = tmp_path / "anything.dat"
    copy.write_bytes((shared / "traces" / f"{name}.csv").read_bytes())
    trace = read(copy)
    assert type(trace) is kind
    assert len(trace) == count
    assert trace.starts_at == pytest.approx(starts_at) if starts_at else trace.starts_at is None
    assert trace.at_seconds[0] == 0


def test_the_recorded_traces_have_their_published_figures(shared):
    mooncake = read(shared / "traces" / "mooncake_conversation.csv")
    assert mooncake.input_tokens.mean() == pytest.approx(12_035, abs=1)
    assert mooncake.output_tokens.mean() == pytest.approx(343, abs=1)
    servegen = read(shared / "traces" / "servegen_m_large_10min.csv")
    assert servegen.rps.mean() == pytest.approx(196, abs=0.5)
    assert servegen.rps.max() / servegen.rps.mean() == pytest.approx(2.98, abs=0.01)
    assert servegen.burstiness == 3.45
    coding = read(shared / "traces" / "azure_llm_2024_coding_10min.csv")
    assert coding.span_seconds == 7 * 86_400
    assert coding.rps[0] == pytest.approx(1344.3 / 60)


def test_the_gaps_of_a_recorded_trace_are_marked_and_noted(shared):
    trace = read(shared / "traces" / "nab_elb_request_count.csv")
    assert trace.measured is not None
    missing = np.flatnonzero(~trace.measured)
    assert len(missing) == 8
    # 4032 counts in steps of 300 s; each gap is one step, filled with the mean of its neighbours.
    assert trace.rps[missing] == pytest.approx((trace.rps[missing - 1] + trace.rps[missing + 1]) / 2)
    assert "8 missing steps" in trace.notes[0]


@pytest.mark.parametrize(
    ("header", "row", "rps"),
    [
        ("timestamp,count", "2024-05-01T00:0{i}:00Z,120", 2.0),
        ("Time,RequestCount", "2024-05-01 00:0{i},120", 2.0),
        ("timestamp,value", "2024-05-01 00:0{i}:00,120", 2.0),
        ("timestamp,rps", "2024/05/01 00:0{i}:00,2", 2.0),
        ("timestamp,qps", "2024-05-01T02:0{i}:00+02:00,2", 2.0),
        ("minute,rpm", "{i},120", 2.0),
        ("t_sec,rps", "{i}000,2", 2.0),
        ("timestamp_ms,requests_per_second", "{i}000,2", 2.0),
        ('"timestamp","count"', '"171452880{i}","2"', 2.0),
        ("\ufefftimestamp,rps", "{i},2", 2.0),
    ],
)
def test_rates_and_counts_are_read_as_requests_per_second(tmp_path, header, row, rps):
    text = "\r\n".join([header, *(row.format(i=i) for i in range(1, 6)), "", ""])
    trace = read(written(tmp_path, text))
    assert isinstance(trace, RateTrace)
    assert trace.rps.tolist() == [rps] * 5
    assert trace.at_seconds[0] == 0


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("timestamp,input_tokens,output_tokens", "2024-05-01T00:00:0{i}.25Z,100,10"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens", "2024-05-01 00:00:0{i}.2500000,100,10"),
        ("timestamp_ms,input_tokens,output_tokens", "{i}250,100,10"),
        ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", "{i}.25,ChatGPT,100,10,110,API log"),
        ("output_tokens,prompt_tokens,at_seconds", "10,100,{i}.25"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens", "{i}.25,100,10"),
    ],
)
def test_requests_are_read_in_seconds_from_the_first(tmp_path, header, row):
    trace = read(written(tmp_path, "\n".join([header, *(row.format(i=i) for i in range(1, 4))])))
    assert isinstance(trace, Trace)
    assert trace.at_seconds == pytest.approx([0, 1, 2])
    assert trace.input_tokens.tolist() == [100] * 3
    assert trace.output_tokens.tolist() == [10] * 3


def test_json_lines_of_the_mooncake_repository_are_read(tmp_path):
    lines = [json.dumps({"timestamp": t, "input_length": 7, "output_length": 3, "hash_ids": [1]}) for t in (100, 900)]
    trace = read(written(tmp_path, "\n".join(lines)))
    assert trace.at_seconds.tolist() == pytest.approx([0, 0.8])
    assert trace.input_tokens.tolist() == [7, 7]


JSON_LINE = '{"timestamp": 1, "input_length": 2, "output_length": 3}\n'


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1:1", "is empty"),
        ("  \n\n", "1:1", "is empty"),
        ("timestamp,count\n", "1:1", "a header without rows"),
        ("foo,bar\n1,2\n", "1:1", "unknown header foo,bar"),
        ("timestamp,inputtokens,output_tokens\n1,2,3\n", "1:1", "did you mean input_tokens"),
        ("timestamp,count,rps\n1,2,3\n", "1:1", "both a count and a rate: count and rps"),
        ("timestamp,count,value\n1,2,3\n", "1:1", "two columns for the count: count and value"),
        ("timestamp,count,input_tokens,output_tokens\n1,2,3,4\n", "1:1", "either a step or a request"),
        ("t_sec,rps\n0,1\n60,x1\n120,3\n", "3:4", "rps: must be a number (got x1)"),
        ("t_sec,rps\n0,1\n60,\n", "3:4", "rps: must be a number (got nothing)"),
        ("t_sec,rps\n0,1\n60,nan\n", "3:4", "rps: must be a number (got nan)"),
        ("t_sec,rps\n0,1\n60,-2\n", "3:4", "rps: must not be negative (got -2)"),
        ("t_sec,rps\n0,1\n60\n120,2\n", "3:3", "rps: must be a number (got nothing)"),
        ("t_sec,rps\n0,1\n60,2,9\n", "3:6", "a row of 3 fields under a header of 2"),
        ("t_sec,rps\n0,1\n60,2\n60,3\n", "4:1", "t_sec: the same time twice (got 60)"),
        ("t_sec,rps\n0,1\n60,2\n30,3\n", "4:1", "t_sec: goes backwards by 30 s (got 30)"),
        ("t_sec,rps\n0,1\n60,2\n120,3\n150,3\n", "5:1", "not a multiple of the step of 60 s"),
        ("t_sec,rps\n0,1\n", "2:1", "needs at least two rows"),
        ("\n\nt_sec,rps\n0,1\n\n60,no\n", "6:4", "rps: must be a number (got"),
        ("timestamp,rps\n2024-05-01 00:00:00,1\n2024-05-32 00:01:00,2\n", "3:1", "must be a time like 2024-05-01"),
        ("timestamp,rps\nyesterday,1\n", "2:1", "must be a time"),
        (
            "timestamp,input_tokens,output_tokens\n2024-05-01 00:00:01,5,5\n2024-05-01 00:00:00.5,5,5\n",
            "3:1",
            "timestamp: goes backwards by 0.5 s (got 2024-05-01 00:00:00.5)",
        ),
        ("timestamp,input_tokens,output_tokens\n1,5,5\n2,5,-5\n", "3:5", "output_tokens: must not be negative"),
        ('timestamp,"input_tokens",output_tokens\n"1","5",5\n"2","a,b",6\n', "3:5", "input_tokens: must be a number"),
        ('{"timestamp": 1, "input_length": 2, "output_length": 3}\n{"timestamp": 2, "inp', "2:", "not JSON"),
        (JSON_LINE + JSON_LINE.replace("1,", "0,"), "2:2", "goes backwards"),
        ('{"timestamp": 1, "input_length": 2}', "1:1", "output_length: is missing"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_line_and_column(tmp_path, text, place, words):
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:{place}")
    assert words in str(caught.value)


def test_an_unknown_header_lists_the_known_formats(tmp_path):
    with pytest.raises(TraceError) as caught:
        read(written(tmp_path, "a,b\n1,2\n"))
    for header in ("timestamp,count", "TIMESTAMP,ContextTokens,GeneratedTokens", "MetricDataResults"):
        assert header in str(caught.value)


def test_bytes_that_are_not_text_are_refused_with_their_place(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"t_sec,rps\n0,1\n60,\xff\n")
    with pytest.raises(TraceError, match=r"trace.csv:3:4: not UTF-8 text \(byte 0xff\)"):
        read(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(TraceError, match="cannot be read: no such file"):
        read(tmp_path / "none.csv")


def test_a_broken_row_far_down_is_found_by_its_line(tmp_path):
    rows = [f"{i},10,10" for i in range(100_000)]
    rows[77_776] = "77776,ten,10"
    path = written(tmp_path, "\n".join(["at_seconds,input_tokens,output_tokens", *rows]))
    with pytest.raises(TraceError, match=r"trace.csv:77778:7: input_tokens: must be a number \(got ten\)"):
        read(path)


GAPPY = "t_sec,rps\n0,10\n60,20\n120,30\n240,50\n300,60\n"


@pytest.mark.parametrize(("gaps", "filled"), [(None, 40), (Gaps.LINEAR, 40), (Gaps.HOLD, 30), (Gaps.ZERO, 0)])
def test_a_gap_is_filled_as_requested_and_linearly_by_default(tmp_path, gaps, filled):
    trace = read(written(tmp_path, GAPPY), gaps=gaps)
    assert trace.rps.tolist() == [10, 20, 30, filled, 50, 60]
    assert trace.measured.tolist() == [True, True, True, False, True, True]
    assert any("1 gap, 1 missing step of 60 s" in note for note in trace.notes)


def test_a_gap_can_be_refused(tmp_path):
    with pytest.raises(TraceError, match=r"trace.csv:5:1: t_sec: a gap of 60 s before this row"):
        read(written(tmp_path, GAPPY), gaps=Gaps.REFUSE)


def test_columns_that_are_not_read_are_noted(tmp_path):
    trace = read(written(tmp_path, "timestamp,count,region\n0,5,eu\n60,6,eu\n"))
    assert trace.notes == ("columns not read: region",)
