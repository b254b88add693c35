"""What to do with a demo that was left running."""

from pathlib import Path

from rich.text import Text

_HEADING = "bold"

_STATEMENTS = """
  UPDATE applications SET status = 'hired', updated_at = now() WHERE hellowork_id = 'HW-1012';
  UPDATE applications SET job_id = 'J-300', updated_at = now() WHERE hellowork_id = 'HW-1013';
  UPDATE applications SET updated_at = now();
  DELETE FROM applications WHERE hellowork_id = 'HW-1014';
"""


def invitation(*, psql: Path, dsn: str, config: Path, admin_url: str, emulator_url: str, cdc_sync: str) -> Text:
    """Where everything is, and ready-made things to try.

    Args:
        psql: the client of the server's installation.
        dsn: the ATS's database, for the ATS.
        config: the daemon's configuration.
        admin_url: its page.
        emulator_url: where HelloWork's API is emulated.
        cdc_sync: the command line that is this `cdc-sync`.
    """
    client = str(psql) if psql.exists() else "psql"
    command = f"{cdc_sync} --config {config}"
    return Text.assemble(
        ("\nEverything is left running, until Ctrl-C.\n", _HEADING),
        f"""
  the ATS's database    {dsn}
  the daemon's page     {admin_url}/
  what HelloWork got    {emulator_url}/_emulator/calls
""",
        ("\nBe the recruiter:", _HEADING),
        f"\n\n  {client} '{dsn}'\n",
        _STATEMENTS,
        ("\nBe the sysadmin:", _HEADING),
        f"""

  {command} status
  {command} explain HW-1001
  curl -X POST {emulator_url}/_emulator/faults -d '{{"kind": "status", "status": 503, "times": 3}}'

""",
        ("What HelloWork receives from now on:\n", _HEADING),
    )
