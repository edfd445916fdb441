"""Launching a plan: starting the executor, talking to it, and saying what happened.

    become   this process becomes the executor: the command line's way
    spawn    the executor is started beside this process: the library's way
    Report   how it ended

:mod:`sublet.launch.failure` turns a failure into a sentence with a remedy, and
:mod:`sublet.launch.reporter` is the program that says it when nobody else is left to.
"""
