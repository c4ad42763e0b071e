"""What one task leaves for the next, under each executor: the table of docs/executors.md is what happens."""

import leak_matrix

NO_SHARED_MEMORY = ("isolated_fork", "cold", "cold + forceFreshVenv")
FILES = {"a temporary file", "a new file beside the model", "a changed file of the model"}


def test_the_documented_leaks_are_those_that_happen(tmp_path):
    columns = leak_matrix.measure(tmp_path)
    assert leak_matrix.documented() == leak_matrix.table(columns), "run `make leaks`, and read what changed"
    # Whatever the table says, these are promises.
    found = {
        name: {leak for leak, is_found in column.items() if is_found} for name, column in columns.items()
    }
    assert all(found[name] <= {"an installed package"} for name in NO_SHARED_MEMORY), found
    assert found["cold + forceFreshVenv"] == set()
    assert not found["isolated_warm"] & FILES, found
