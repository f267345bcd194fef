"""The settings: the file and the environment, and refusals that name the key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from node.settings import Settings, SettingsError, load
from node.settings_values import SettingsTable


def written(folder: Path, content: str) -> Path:
    file = folder / "node.toml"
    file.write_text(content, encoding="utf-8")
    return file


def test_without_a_file_the_embedded_defaults_hold() -> None:
    settings = load(None)
    assert (settings.receiver.ae_title, settings.receiver.host, settings.receiver.port) == (
        "SPINENODE",
        "127.0.0.1",
        11112,
    )
    assert settings.archives == ()
    assert settings.database_url == f"sqlite:///{Path('spinenode-data/node.db').absolute()}"
    assert settings.spool_dir == Path("spinenode-data/spool")


def test_the_file_is_read(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [node]
        database_url = "postgresql+psycopg://node@db/spinenode"
        [[archives]]
        name = "pacs"
        ae_title = "PACS"
        host = "pacs.hospital"
        port = 104
        """,
    )
    settings = load(file)
    assert settings.database_url == "postgresql+psycopg://node@db/spinenode"
    assert [(archive.name, archive.port, archive.outputs) for archive in settings.archives] == [("pacs", 104, ())]


def test_the_environment_wins_over_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, '[receiver]\nport = 104\nae_title = "ONE"\n')
    monkeypatch.setenv("SPINENODE_RECEIVER__PORT", "11113")
    settings = load(file)
    assert (settings.receiver.port, settings.receiver.ae_title) == (11113, "ONE")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[receiver]\nprot = 104\n", r"receiver\.prot: unknown key"),
        ("[receiver]\ndimse_timeout_s = 60\n", r"receiver\.dimse_timeout_s: unknown key"),
        ("[reciever]\nport = 104\n", r"reciever: unknown key"),
        ("[receiver]\nport = 0\n", r"receiver\.port: .*greater than or equal to 1"),
        ('[receiver]\nport = "many"\n', r"receiver\.port: .*valid integer"),
        ('[receiver]\nae_title = "SEVENTEEN_LETTERS"\n', r"receiver\.ae_title: .*1 to 16 printable"),
        ('[receiver]\nae_title = "A\\\\B"\n', r"receiver\.ae_title: .*no backslash"),
        ('[receiver]\nae_title = "   "\n', r"receiver\.ae_title"),
        ('[receiver]\nallowed_addresses = ["10.0.0.0/33"]\n', r"receiver\.allowed_addresses\.0"),
        ('[receiver]\nallowed_addresses = ["pacs.hospital"]\n', r"receiver\.allowed_addresses\.0"),
        ("[assembly]\nquiet_s = 0\n", r"assembly\.quiet_s"),
        ('[inference]\ndevice = "gpu"\n', r"inference\.device"),
        ('[results]\noutputs = ["pdf"]\n', r"results\.outputs\.0"),
        ('[results]\nlanguage = "fr"\n', r"results\.language"),
        ('[results]\ncapture_form = "multi_frame"\ncapture_geometry = true\n', r"results: .*single_frame"),
        ('[[archives]]\nname = "pacs"\n', r"archives\.0: .*ae_title and host and port missing"),
        ("[receiver\n", "not valid TOML"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        load(written(tmp_path, content))
    assert "node.toml" in str(caught.value)


WEB = '[[archives]]\nname = "web"\nstow_url = '
DIMSE = '[[archives]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'


def test_an_archive_may_be_reached_by_stow_alone(tmp_path: Path) -> None:
    (archive,) = load(written(tmp_path, WEB + '"https://pacs.example/dicom-web"\n')).archives
    assert (archive.stow_url, archive.host, archive.port) == ("https://pacs.example/dicom-web", "", 0)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[[archives]]\nname = "pacs"\nae_title = "PACS"\nport = 104\n', "host missing"),
        (WEB + '"https://p/w"\nhost = "h"\n', "ae_title and port missing"),
        (WEB + '"ftp://p/w"\n', "stow_url must be http"),
        (WEB + '"https://user:secret@p/w"\n', "stow_url must be http"),
        (WEB + '"http://p/w"\nstow_token_file = "t"\n', "stow_url must be https where a token or password goes"),
        (WEB + '"https://p/w"\nstow_token_file = "t"\nstow_password_file = "p"\n', "not both"),
        (DIMSE + 'stow_token_file = "t"\n', "need stow_url"),
        (DIMSE + 'tls = true\ntls_key_file = "k"\n', "tls_certificate_file and tls_key_file go together"),
        (DIMSE + 'tls_ca_file = "ca"\n', "it would send in clear"),
        (DIMSE + 'transfer_syntaxes = ["jpeg_baseline"]\n', r"archives\.0\.transfer_syntaxes\.0"),
        ("[delivery]\ngive_up_after_s = 0\n", r"delivery\.give_up_after_s"),
        ("[delivery]\nbreaker_failures = 0\n", r"delivery\.breaker_failures"),
        ('[[senders]]\nae_title = "A"\npriority = 10\n', r"senders\.0\.priority"),
    ],
)
def test_an_archive_that_could_not_be_sent_to_safely_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        load(written(tmp_path, content))


def test_all_bad_settings_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, "[receiver]\nport = 0\nprot = 1\n[assembly]\nquiet_s = -1\n"))
    assert all(key in str(caught.value) for key in ("receiver.port", "receiver.prot", "assembly.quiet_s"))


def test_two_archives_of_one_name_are_refused(tmp_path: Path) -> None:
    archive = '[[archives]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
    with pytest.raises(SettingsError, match="'pacs' is used twice"):
        load(written(tmp_path, archive * 2))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.toml: No such file"):
        load(tmp_path / "missing.toml")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().receiver.port = 1  # type: ignore[misc]


def test_several_workers_need_a_database_server(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"node\.workers = 2 needs PostgreSQL \(node\.database_url\)"):
        load(written(tmp_path, "[node]\nworkers = 2\n"))
    several = load(written(tmp_path, '[node]\nworkers = 2\ndatabase_url = "postgresql+psycopg://node@db/spinenode"\n'))
    assert several.node.workers == 2


@pytest.mark.parametrize("parts", ["[]", '["worker", "worker"]'])
def test_each_part_of_a_node_is_named_once(tmp_path: Path, parts: str) -> None:
    with pytest.raises(SettingsError, match=r"node\.parts: .*each once \(more workers: node\.workers\)"):
        load(written(tmp_path, f"[node]\nparts = {parts}\n"))


def test_the_spool_lies_in_the_data_folder_unless_it_is_shared(tmp_path: Path) -> None:
    assert load(written(tmp_path, '[node]\ndata_dir = "/var/a"\n')).spool_dir == Path("/var/a/spool")
    shared = '[node]\ndata_dir = "/var/a"\nspool_dir = "/mnt/shared"\n'
    assert load(written(tmp_path, shared)).spool_dir == Path("/mnt/shared")


def _numbers() -> list[tuple[str, str]]:
    """Table and key of every setting that is a number."""
    found = []
    for table, field in Settings.model_fields.items():
        kind = get_args(field.annotation)[0] if get_args(field.annotation) else field.annotation
        assert isinstance(kind, type(SettingsTable))
        for key, inner in kind.model_fields.items():
            words = set(re.findall(r"\w+", str(inner.annotation)))
            found += [(table, key)] if words & {"int", "float"} else []
    return found


def test_the_numbers_are_found() -> None:
    assert {("delivery", "give_up_after_s"), ("retention", "rows_days"), ("senders", "quiet_s")} < set(_numbers())


@pytest.mark.parametrize(("table", "key"), _numbers())
@pytest.mark.parametrize("value", ["inf", "1e15"])
def test_no_number_is_so_large_that_nothing_can_be_reckoned_with_it(
    tmp_path: Path, table: str, key: str, value: str
) -> None:
    several = {"senders": 'ae_title = "CT"', "archives": 'name = "a"\nae_title = "A"\nhost = "h"\nport = 104'}
    head = f"[[{table}]]\n{several[table]}" if table in several else f"[{table}]"
    file = written(tmp_path, f"{head.replace('port = 104', '') if key == 'port' else head}\n{key} = {value}\n")
    with pytest.raises(SettingsError, match=rf"{table}(\.0)?\.{key}: "):
        load(file)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[delivery]\ngive_up_after_s = 1e12\n", r"delivery\.give_up_after_s: .*less than or equal to 315360000"),
        ("[retention]\nrows_days = 1e7\n", r"retention\.rows_days: .*less than or equal to 36500"),
        ("[delivery]\nconnect_timeout_s = 1e7\n", r"delivery\.connect_timeout_s: .*less than or equal to 86400"),
        ("[notices]\ngather_s = -1\n", r"notices\.gather_s: .*greater than or equal to 0"),
        ("[node]\nworker_dead_after_s = 1\n", r"node\.worker_dead_after_s: .*greater than or equal to 2"),
        ("[delivery]\nfirst_delay_s = 901\n", r"delivery: .*first_delay_s = 901 is longer than maximum_delay_s"),
    ],
)
def test_a_time_without_end_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        load(written(tmp_path, content))


@pytest.mark.parametrize(
    "name",
    [
        "SPINENODE_FOO__BAR",
        "SPINENODE_DELIVERYFIRST",
        "SPINENODE_DELIVERY_FIRST_DELAY_S",
        "SPINENODE_DELIVERY__FIRST_DELAY",
        "spinenode_foo__bar",
        "SPINENODE_ARCHIVES__0__HOST",
        "SPINENODE_DELIVERY__",
    ],
)
def test_a_variable_that_names_no_setting_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name}: this environment variable names no"):
        load(None)


def test_variables_that_others_read_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPINENODE_CONFIG", "SPINENODE_DATA", "SPINENODE_OHIF", "SPINENODES_FOO"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("spinenode_receiver__port", "105")
    assert load(None).receiver.port == 105
