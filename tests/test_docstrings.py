"""The examples in the docstrings of public classes run.

pytest looks for examples by the module that a class names as its own, which is the
package for public classes and not the file they stand in.
"""

from __future__ import annotations

import doctest

import pytest

import skprotolm
from skprotolm import metrics

CLASSES = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (skprotolm, metrics)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
}


@pytest.mark.parametrize("name", CLASSES)
def test_the_examples_of_a_class_run(name):
    assert CLASSES[name].__module__ == name.rpartition(".")[0]
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(verbose=False, optionflags=flags)
    # module=False: of whatever module the class says it is.
    for test in doctest.DocTestFinder().find(CLASSES[name], name, module=False):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_there_are_examples():
    tests = doctest.DocTestFinder().find(skprotolm.ProtoLMClassifier, module=False)
    assert sum(len(test.examples) for test in tests) > 3
