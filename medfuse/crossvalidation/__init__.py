"""Repeated, grouped cross-validation of a task on a cohort: plan, folds, intervals by patient, papers."""
