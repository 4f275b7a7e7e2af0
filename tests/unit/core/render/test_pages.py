"""The scenarios' pages: what stands in them, that their scripts run, and that those in docs/ are today's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.core.plan import Cell, CellPlan, plan_cell, variants
from lab.core.render import by_hand, by_hand_paths
from lab.core.render.markdown import block, code, prose, table
from lab.core.render.pages import condition_in_words, scenario_index, scenario_page
from lab.core.scenario import FileStep, Scenario, parse_scenario
from lab.host.publish.documents import documents, outdated, write_documents
from tests import ROOT
from tests.unit.free_ports import free_row

HEAD = 'version = 1\nname = "one"\nsummary = "A question with a * and a <tag>?"\n'
LOADS = {
    "hold": "connections = 50",
    "churn, fin": 'kind = "churn"\nconnections = 20\nclose = "fin"\nrate_per_second = 500\nhold_seconds = 0.01',
    "churn, reset": 'kind = "churn"\nconnections = 20\nclose = "reset"',
    "half-open": 'kind = "half-open"\nconnections = 30\nnewcomers = 5',
    "udp": 'kind = "udp"\nconnections = 300\nrate_per_second = 5000\nnewcomers = 5',
}
TOLD = {
    "hold": "50 of 50 accepted",
    "churn, fin": "20 of 20 opened, 0 failed",
    "churn, reset": "20 of 20 opened, 0 failed",
    "half-open": "5 of 5 newcomers accepted",
    "udp": "0 of 300 refused",
}


def scenario(text: str) -> Scenario:
    return parse_scenario(HEAD + text, "one.toml")


def plan(text: str) -> CellPlan:
    return plan_cell(Cell(variants(scenario(text))[0], "debian12"))


def typed(text: str) -> str:
    """A page's state as it is typed, of a scenario with one step."""
    return by_hand.commands(plan(f"[[state]]\n{text}\n").steps[0].step)


# -- those in docs/ ---------------------------------------------------------------------------------------------------


def test_the_documents_are_what_the_files_make() -> None:
    told = [f"{path} {why}" for path, why in sorted(outdated(ROOT).items())]
    assert told == [], "run scripts/write-docs, and look at what it changed"


def test_every_shipped_scenario_has_a_page_and_stands_in_the_index() -> None:
    made = documents(ROOT)
    index = made[Path("docs/scenarios/README.md")]
    for path in (ROOT / "scenarios").glob("*.toml"):
        assert f"[{path.stem}]({path.stem}.md)" in index
        assert f"# {path.stem}\n" in made[Path(f"docs/scenarios/{path.stem}.md")]


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios").glob("*.toml")), ids=lambda path: path.stem)
def test_the_scripts_of_the_pages_are_python(path: Path) -> None:
    for variant in variants(parse_scenario(path.read_text(encoding="utf-8"), str(path))):
        compile(by_hand.load_script(plan_cell(Cell(variant, "debian12"))), path.stem, "exec")


def test_a_page_of_a_program_names_its_file_and_the_file_beside_it() -> None:
    page = documents(ROOT)[Path("docs/scenarios/docker-stopped.md")]
    assert "(../../scenarios/programs/docker-stopped.toml)" in page
    assert "cp ./docker-api.py /root/docker-api.py  # the file beside the scenario" in page
    assert "import http.client" not in page
    assert "- Packages beside the target's own: `docker.io`." in page
    assert "state=running or published or stopped or purged" in page


def test_writing_makes_mends_and_removes(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "one.toml").write_text(HEAD)
    index, page = Path("docs/scenarios/README.md"), Path("docs/scenarios/one.md")
    assert outdated(tmp_path) == {index: "is missing", page: "is missing"}
    assert write_documents(tmp_path) == [index, page]
    assert write_documents(tmp_path) == []
    (tmp_path / page).write_text("by hand\n")
    assert outdated(tmp_path) == {page: "is outdated"}
    write_documents(tmp_path)
    (tmp_path / "docs" / "scenarios" / "note.md").write_text("a person's\n")
    (tmp_path / "scenarios" / "one.toml").unlink()
    assert outdated(tmp_path)[page] == "is of something that is not there any more"
    assert write_documents(tmp_path) == [index, page]
    assert not (tmp_path / page).exists()
    assert (tmp_path / "docs" / "scenarios" / "note.md").exists()


# -- a page -----------------------------------------------------------------------------------------------------------

BOTH = """
[matrix]
iptables = ["legacy", "nft"]
[[state]]
run = ["{iptables}", "--list"]
[[state]]
when = { iptables = "nft" }
run = ["nft", "add table ip {{ }}"]
[conntrack]
max = 100
buckets = 64
timeouts = { udp = 5 }
[[expect]]
kernel = "<4.14"
iptables = "nft"
finding = "table-full"
because = "so it | is"
[[expect]]
finding = "untracked"
"""


def test_a_page_has_each_variant_filled_in() -> None:
    page = scenario_page(scenario(BOTH))
    assert "### iptables-legacy\n\n```sh\niptables-legacy --list\n```" in page
    assert "### iptables-nft\n\n```sh\niptables-nft --list\nnft 'add table ip { }'\n```" in page
    assert "{iptables}" not in page


def test_variants_that_do_the_same_stand_together() -> None:
    page = scenario_page(scenario('[matrix]\nsize = [1, 2]\n[[state]]\nrun = ["true"]\n'))
    assert "## State\n\n```sh\ntrue\n```" in page
    text = '[matrix]\niptables = ["legacy", "nft"]\nsize = [1, 2]\n[[state]]\nwhen = { size = 2 }\nrun = ["true"]\n'
    page = scenario_page(scenario(text))
    assert "### size=1\n\n```sh\n# nothing\n```\n\n### size=2\n\n```sh\ntrue\n```" in page


def test_a_page_tells_what_is_expected_where() -> None:
    page = scenario_page(scenario(BOTH))
    assert "| kernel < 4.14, iptables-nft | `table-full` | so it \\| is |" in page
    assert "| elsewhere | `untracked` |  |" in page
    assert "The first line that fits counts." in page
    assert "Elsewhere nothing is expected." not in page
    alone = scenario_page(scenario('[[expect]]\nkernel = ">=5.1"\nfinding = "tracked"\n'))
    assert "Elsewhere nothing is expected." in alone
    assert "| everywhere | `tracked` |" in scenario_page(scenario('[[expect]]\nfinding = "tracked"\n'))
    assert "Nothing is expected" in scenario_page(scenario(""))


def test_a_page_has_the_settings_in_words_and_as_commands() -> None:
    page = scenario_page(scenario(BOTH))
    assert "- Table: `nf_conntrack_max` 100; 64 buckets; timeout `udp` 5 s." in page
    for command in (
        "echo 64 > /sys/module/nf_conntrack/parameters/hashsize",
        "sysctl -w net.netfilter.nf_conntrack_max=100",
        "sysctl -w net.netfilter.nf_conntrack_udp_timeout=5",
    ):
        assert f"\n{command}\n" in page
    assert "sysctl" not in scenario_page(scenario(""))


def test_a_page_tells_what_a_machine_must_have() -> None:
    page = scenario_page(scenario(BOTH))
    assert "- iptables-nft: kernel >= 3.18; `nf_tables`, `nft_compat` as a module or built in." in page
    assert "- Programs: `iptables-legacy`, `iptables-nft`, `nft`." in page
    text = '[requires]\nloadable = ["nf_conntrack"]\nconfig = ["NF_TABLES=m|y", "SMP=n"]\n[[state]]\nrun = ["true"]\n'
    wanted = "- `CONFIG_NF_TABLES` m or y, `CONFIG_SMP` not set; `nf_conntrack` as a module, not built in."
    assert wanted in scenario_page(scenario(text))


def test_a_page_ends_with_the_labs_commands() -> None:
    assert "lab run one\n" in scenario_page(scenario(BOTH))
    assert scenario_page(scenario(BOTH)).endswith("lab shell one --set iptables=legacy\n```\n")


def test_what_shows_a_refusal_is_told_where_one_is_expected() -> None:
    assert "`state-refused`" not in scenario_page(scenario(BOTH))
    refused = '[[state]]\nrun = ["false"]\nrefused = true\n[[expect]]\nfinding = "state-refused"\n'
    page = scenario_page(scenario(refused))
    assert "| a command of the state fails, or one that must fail does not | `state-refused` |" in page
    assert "false  # must fail" in page


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "20,000 TCP connections are opened and held over loopback"),
        ('kind = "churn"\nconnections = 5', "5 TCP connections are opened over loopback, each closed with FIN at once"),
        (
            'kind = "churn"\nrate_per_second = 7\nhold_seconds = 0.5\nclose = "vanish"',
            "20,000 TCP connections are opened over loopback, 7 per second, each open for 0.5 s, then dropped on both"
            " sides without a packet",
        ),
        (
            'kind = "udp"\nnewcomers = 9',
            "20,000 UDP datagrams to as many addresses of 127.0.0.0/8 that answer nothing; then 9 TCP connections are"
            " opened and held",
        ),
    ],
)
def test_a_load_in_words(text: str, words: str) -> None:
    assert f"- Load: {words}.\n" in scenario_page(scenario(f"[load]\n{text}\n"))


def test_boot_arguments_are_told_by_variant() -> None:
    page = scenario_page(scenario('[matrix]\nsize = [1, 2]\n[machine]\nboot_args = ["a={size}", "b"]\n'))
    assert "- Kernel command line, size=1: `a=1 b`.\n- Kernel command line, size=2: `a=2 b`." in page
    assert "Boot it with the kernel command line above." in page


# -- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ('kernel = "<4.14"\niptables = "nft"', "kernel < 4.14, iptables-nft"),
        ('kernel = "==4.17"\ntarget = "debian11*"\nsize = 2', "kernel 4.17, size=2, target `debian11*`"),
        ('kernel = ">=4.16,<4.20,!=4.17,!=4.19"', "kernel >= 4.16 and < 4.20 but not 4.17 or 4.19"),
        ('iptables_version = "<1.8.8"\nnft_version = "!=1.0"', "iptables < 1.8.8, nft but not 1.0"),
        ('config = ["SMP=n", "NF_TABLES=m|y"]', "`CONFIG_SMP` not set, `CONFIG_NF_TABLES` m or y"),
    ],
)
def test_conditions_in_words(text: str, words: str) -> None:
    matrix = '[matrix]\niptables = ["legacy", "nft"]\nsize = [1, 2]\n'
    [one] = scenario(f'{matrix}[[expect]]\nfinding = "tracked"\n{text}\n').expectations
    assert condition_in_words(one.condition, one.axes) == words


def test_the_index_tells_the_expectations_in_their_order() -> None:
    row = scenario_index([scenario(BOTH)]).splitlines()[-1]
    wanted = "`table-full` (kernel < 4.14, iptables-nft), else `untracked`"
    assert row == f"| [one](one.md) | A question with a \\* and a &lt;tag>? | {wanted} |"
    assert scenario_index([scenario("")]).endswith("| - |\n")


# -- steps as they are typed ------------------------------------------------------------------------------------------


def test_a_program_is_typed_quoted() -> None:
    assert typed('run = ["nft", "add table x; #", "it\'s"]') == """nft 'add table x; #' 'it'"'"'s'"""


@pytest.mark.parametrize("text", ["a\n", "a\nEOF\nEOF_\n", "no newline", "", "$HOME `id` 'x'\n", "\n"])
def test_a_file_is_written_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new folder" / "file"
    subprocess.run(["bash", "-c", by_hand.commands(FileStep(str(path), text))], check=True)
    assert path.read_text() == text


def test_a_file_of_the_kernels_is_echoed() -> None:
    file = 'file = { path = "/sys/module/nf_conntrack/parameters/hashsize", text = "64" }'
    assert typed(file) == "echo 64 > /sys/module/nf_conntrack/parameters/hashsize"
    assert "mkdir" not in typed('file = { path = "/etc/modprobe.d/lab.conf", text = "x\\n" }')


def test_sysctls_are_typed_one_by_one() -> None:
    text = 'sysctl = { "net.ipv4.tcp_syncookies" = 0, "net.ipv4.ip_local_port_range" = "1024 2000" }'
    wanted = "sysctl -w net.ipv4.tcp_syncookies=0\nsysctl -w 'net.ipv4.ip_local_port_range=1024 2000'"
    assert typed(text) == wanted


def test_modules_are_removed_where_loaded() -> None:
    names = ", ".join(f'"module-{number}"' for number in range(20))
    lines = typed(f"unload = [{names}]")
    assert "module_19; do" in lines
    assert max(map(len, lines.splitlines())) <= 110
    script = lines.replace("sleep 1", "true").replace("/proc/modules", "loaded").replace("modprobe -r", "echo")
    done = subprocess.run(
        ["bash", "-c", f"cd $(mktemp -d); echo 'module_7 1 0' > loaded; {script}"], capture_output=True, text=True
    )
    assert done.stdout == "module_7\n"


# -- the loads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOADS)
def test_a_load_runs_by_hand(kind: str) -> None:
    text = by_hand.load_script(plan(f"[load]\n{LOADS[kind]}\n")).replace("sleep(2)", "sleep(0.3)")
    first = free_row()
    text = text.replace("7777", str(first)).replace("7778", str(first + 1))
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert TOLD[kind] in done.stdout
    assert "before:" in done.stdout
    assert "after:" in done.stdout


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 400),
        ("[conntrack]\nmax = 100", 400),
        ("[conntrack]\nmax = 1000", 4000),
        ("[conntrack]\nmax = 131072", 20_000),
        ("[load]\nconnections = 80\n[conntrack]\nmax = 100", 80),
    ],
)
def test_how_many_connections_are_enough(text: str, count: int) -> None:
    assert by_hand.connections(plan(f"{text}\n")) == count
    script = by_hand.load_script(plan(f"{text}\n"))
    assert f"range({count})" in script
    assert ("RLIMIT_NOFILE" in script) == (count > 462)


def test_a_routed_load_moves_between_the_namespaces() -> None:
    routed = plan('[machine]\ntopology = "netns"\n')
    script = by_hand.load_script(routed)
    compile(script, "routed", "exec")
    places = [line.split('"')[1] for line in script.splitlines() if line.startswith("enter(")]
    assert places == ["/run/netns/lab-server", "/run/netns/lab-client", "/proc/1/ns/net"]
    assert "ip netns add" in by_hand_paths.topology(routed)
    assert by_hand_paths.topology(plan("")) == ""


# -- Markdown ---------------------------------------------------------------------------------------------------------


def test_texts_stay_what_they_are() -> None:
    assert prose("a * [b] <c> `d * <e>`") == "a \\* \\[b\\] &lt;c> `d * <e>`"
    assert code("a") == "`a`"
    assert code("a`b") == "`` a`b ``"
    assert block("a\n```\nb\n") == "````sh\na\n```\nb\n````"
    assert table(("a", "b"), [("1|2", "")]) == "| a | b |\n| --- | --- |\n| 1\\|2 |  |"
