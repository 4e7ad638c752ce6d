"""The configuration is light: no torch, no numpy, nothing of ours."""

import subprocess
import sys


def test_loading_imports_nothing_heavy():
    code = (
        "import sys, pipemlp.config.loading, pipemlp.config.schema, pipemlp.config.writing;"
        "print([name for name in ('torch', 'numpy', 'deepspeed', 'pyarrow') if name in sys.modules],"
        "sorted({n.split('.')[1] for n in sys.modules if n.startswith('pipemlp.')}))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "[] ['config']\n"
