"""Running a recipe: the plan (what is cached, what runs, and why), its execution, and an estimate of its time.

The package is not called ``run``: that name is the function `wsseg.run`.
"""
