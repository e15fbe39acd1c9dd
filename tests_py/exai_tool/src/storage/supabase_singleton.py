import os

from src.storage.supabase_client import RestClient


def get_supabase_client(use_admin=False):
    url = os.getenv("SUPABASE_URL", "")
    key = os.getenv("SUPABASE_SERVICE_ROLE_KEY" if use_admin else "SUPABASE_ANON_KEY", "")
    if not (url and key):
        raise ValueError("SUPABASE_URL and a key are needed")
    return RestClient(url, key)
