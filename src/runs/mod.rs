//! The experiment record: one folder of plain files a run.
