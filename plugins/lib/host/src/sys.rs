//! The only unsafe code in the tree.
