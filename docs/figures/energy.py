"""Draw `energy.svg`: two energies of the patterns in the paper's figure 1, with retrieval paths."""

import sys
from pathlib import Path

from hopmin._files import write_text
from hopmin.study.figures import landscapes, svg

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")

if __name__ == "__main__":
    write_text(target, svg(landscapes()))
