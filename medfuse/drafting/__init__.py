"""From findings to words: compose a report, check each sentence, answer a question."""
