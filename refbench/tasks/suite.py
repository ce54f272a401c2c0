from pathlib import Path
def data_folder():
    return Path(__file__).resolve().parents[2]/"tasks"
