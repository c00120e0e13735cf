"""No file, message or name that comes from outside is executed, unpickled or written elsewhere."""

import ast

import pytest

from tests.project_files import ROOT, nodes_of, relative, text_of

PROGRAMS = [
    path
    for folder in ("pi0", "tools", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
# Modules that turn bytes into objects; reading tensors catches one of pickle's errors by name.
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MAY_NAME_PICKLE = {"pi0/formats/weight_files.py"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "np.load",
    "numpy.load", "shutil.unpack_archive", "tarfile.open",
}  # fmt: skip
EVERY_ADDRESS = ("0.0.0.0", "::")


def dangers(source: str, name: str = "pi0/x.py") -> list[str]:
    """Return one line per danger in a program."""
    found: list[str] = []
    for node in nodes_of(source):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            heads = {module.partition(".")[0] for module in names}
            if heads & UNPICKLING and name not in MAY_NAME_PICKLE:
                found.append(f"{name}:{node.lineno} imports {', '.join(heads & UNPICKLING)}")
        elif isinstance(node, ast.Call):
            found += [f"{name}:{node.lineno} {what}" for what in _dangers_of_call(node)]
        elif isinstance(node, ast.Constant) and node.value in EVERY_ADDRESS:
            found.append(f"{name}:{node.lineno} listens on every address")
    return found


def _dangers_of_call(node: ast.Call) -> list[str]:
    called = ast.unparse(node.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    what = [called] if called in CALLS else []
    if options.get("shell") == "True":
        what.append("shell=True")
    if called == "torch.load" and options.get("weights_only") != "True":
        what.append("torch.load without weights_only=True")
    if called.endswith(("connection.send", "connection.recv")):
        what.append(f"{called} pickles")
    return what


def test_no_program_has_a_danger():
    found = [line for path in PROGRAMS for line in dangers(text_of(path), relative(path))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import dumps",
        "eval('1')",
        "import yaml\nyaml.load(text)",
        "subprocess.run(command, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "self.connection.send(message)",
        "server.bind(('0.0.0.0', 80))",
    ],
)
def test_planted_danger_is_found(source):
    assert len(dangers(source)) == 1
