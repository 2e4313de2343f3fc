import pytest

from diffusability.core.cost.amounts import Flops
from diffusability.core.cost.devices import device_named
from diffusability.core.errors import SpecError


def test_a_device_of_ones_own():
    """An hour of its peak rate takes an hour; its memory is in units of 10^9 bytes."""
    device = device_named("mi300x:1307,5300,192")
    assert (device.label, device.unit, device.memory_bytes) == ("mi300x", "GPU-hours", 192_000_000_000)
    assert Flops(low=1307e12 * 3600).hours(device, 1.0) == pytest.approx(1)


@pytest.mark.parametrize("name", ["mi300x:", "mi300x:1", "x:1,2", "x:1,2,3,4", ":1,2,3", "x:1,-2,3", "x:a,b,c"])
def test_incomplete_devices_are_refused(name):
    with pytest.raises(SpecError, match=r"is not of the form 'name:TFLOPS,GB/s,GB'"):
        device_named(name)


def test_an_unknown_name_is_answered_with_both_forms():
    with pytest.raises(SpecError, match=r"did you mean 'h100'.*or one of your own, 'name:TFLOPS,GB/s,GB'"):
        device_named("h10")
