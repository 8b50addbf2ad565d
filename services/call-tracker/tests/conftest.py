import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the made-up calls are shared by the test modules
