"""The Streamlit viewer: worklist, reading, search, cohort, rating and accounts."""
