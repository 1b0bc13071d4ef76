"""Who is who: profiles that are merged, and un-merged."""
