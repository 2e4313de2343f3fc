"""Settings of all tests."""

from pathlib import Path

from hypothesis import settings

# How long an example takes says nothing but how busy the machine is: the first one may import half of torch.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

#: Files that take longest, first: workers that take whole files then end at about the same time.
LONGEST = (
    "test_training",
    "test_jobs",
    "test_launching",
    "test_run",
    "test_elastic_resume",
    "test_plugin_packages",
    "test_documents",
    "test_numerical_guard",
    "test_recipes",
    "test_observability",
    "test_random_kills",
    "test_feature_cache_of_a_run",
)


def pytest_collection_modifyitems(items):
    """Integration tests before the others, and the longest files first; the order within a file stays."""

    def place(item):
        path = Path(str(item.path))
        rank = LONGEST.index(path.stem) if path.stem in LONGEST else len(LONGEST)
        return ("integration" not in path.parts, rank)

    items.sort(key=place)
