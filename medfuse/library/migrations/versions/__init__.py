"""The steps of migrations, one a file; `down_revision` names the one before."""
