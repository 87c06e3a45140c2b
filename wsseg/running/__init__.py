"""Running a recipe: the plan (which steps are cached, which run, and why), its execution, and an estimate of its time.

The package is not called ``run`` because `wsseg.run` is the function.
"""
