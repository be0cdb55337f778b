"""The command line, as far as it goes without a host."""

from __future__ import annotations

import pytest
from storagepair_node_agent import main
from storagepair_node_agent.host import Host


def test_help_names_the_commands_with_examples(capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for word in ("run", "plan", "apply", "examples:", "actions.log"):
        assert word in text


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_bad_file_is_one_line_and_exit_code_1(command, tmp_path, capsys):
    path = tmp_path / "file.yaml"
    path.write_text("kind: Pod\n")
    assert main.main([command, str(path), "--node", "node1"]) == main.TROUBLE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "StorageNode node1" in error


def test_without_credentials(monkeypatch, capsys):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main.main(["run", "--node", "node1"]) == main.TROUBLE
    assert "--kubeconfig" in capsys.readouterr().err


def test_one_agent_a_host(tmp_path):
    first = main._lock(Host(tmp_path))
    with pytest.raises(main._Busy, match="another storagepair-node-agent"):
        main._lock(Host(tmp_path))
    first.close()
    main._lock(Host(tmp_path)).close()
