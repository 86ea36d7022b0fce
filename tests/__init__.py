"""What pytest alone runs, a file a concern. The notebook's own tests: problem_unittests.py."""
