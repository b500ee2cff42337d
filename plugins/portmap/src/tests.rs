//! Configurations, addresses and mappings; no root, no kernel.
