"""Charts put values where the axes say they are."""

import re

import pytest

from mindreel.viz.chart import Level, Series, line_chart, running_mean, short_number, thinned


def _places(html: str, of: str) -> list[tuple[float, float]]:
    path = re.search(rf'<path class="{of} c1" d="M([^"]*)"', html)
    assert path is not None
    return [tuple(map(float, point.split())) for point in path.group(1).split("L")]  # type: ignore[misc]


def test_points_lie_where_the_axes_say():
    html = line_chart("t", [Series("s", [0, 50, 100], [0.0, 5.0, 10.0])], "x", "y")
    assert _places(html, "line") == [(0, 1000), (500, 500), (1000, 0)]
    assert re.findall(r'left:([\d.]+)%">(\w+)<', html)[-1] == ("100.00", "100")
    assert 'top:0.00%">10<' in html and 'top:100.00%">0<' in html


def test_values_over_decades_get_a_logarithmic_axis():
    html = line_chart("t", [Series("s", [0, 1, 2], [0.01, 1.0, 100.0])], "x", "y")
    assert "logarithmic" in html
    assert _places(html, "line") == [(0, 1000), (500, 500), (1000, 0)]


def test_one_value_a_constant_and_a_level_can_be_drawn():
    assert 'class="dots c1"' in line_chart("t", [Series("s", [3], [7.0])], "x", "y")
    constant = line_chart("t", [Series("s", [0, 1], [7.0, 7.0])], "x", "y", levels=[Level("base", -20.0)])
    assert "base (-20)" in constant
    with pytest.raises(ValueError, match="at least one value"):
        line_chart("t", [Series("s", [], [])], "x", "y")


def test_numbers_are_short():
    values = (0, 0.05, 12_345, 1e6, 999_999, 1234.5, 0.00001, -0.5)
    assert [short_number(value) for value in values] == [
        "0",
        "0.05",
        "12.3k",
        "1M",
        "1M",
        "1234",
        "1.0e-5",
        "-0.5",
    ]


def test_running_means_and_thinning():
    assert running_mean([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    assert thinned([0, 1], [5, 6]) == ([0, 1], [5, 6])
    x, y = thinned(range(1000), [2.0] * 1000)
    assert len(x) == 250 and x[0] == 1.5 and set(y) == {2.0}
