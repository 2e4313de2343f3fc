"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says nothing but how busy the machine is: the first one may import half of torch.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
