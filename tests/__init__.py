"""What pytest alone runs. The notebook's own tests are in problem_unittests.py.

A test goes into the folder of what it is about; a program that a test runs, into children/.

    lesson       the notebook: its parts, its cells, runs from top to bottom, planted faults
    run          training: the loop, its files, going on, settings, devices, the fast step
    data         images: where they come from, decoding, batches, labels, bad input
    quality      judges and networks: encoder, distances, pairs, directions, memorisation
    pages        what is seen: pictures, the live view, the explorer
    experiments  what experiments/ computes, and the numbers that documents quote
    hostile      files that an attacker would send
"""
import os

# Networks as tiny as these gain nothing by a second thread, and wait for it on a busy machine.
# It counts for NumPy and torch, which are imported later: OMP_NUM_THREADS=2 pytest takes two.
os.environ.setdefault('OMP_NUM_THREADS', '1')
