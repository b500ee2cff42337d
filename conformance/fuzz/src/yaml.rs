//! The tool's YAML: compose files.

use moor::yaml::{DEPTH_MAX, NODES_MAX, Node, SIZE_MAX, Value, load};

/// Any file is a tree within the limits, aliases expanded, or a fault with its place.
pub fn yaml(bytes: &[u8]) {
    match load(bytes, 0) {
        Ok(tree) => {
            let mut sum = Sum::default();
            sum.add(&tree, 0);
            assert!(sum.nodes <= NODES_MAX && sum.bytes <= SIZE_MAX && sum.depth <= DEPTH_MAX);
        }
        Err(fault) => assert!(fault.at.line > 0 && fault.at.column > 0, "{fault}"),
    }
}

#[derive(Default)]
struct Sum {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Sum {
    fn add(&mut self, node: &Node, depth: usize) {
        self.nodes += 1;
        self.depth = self.depth.max(depth);
        match &node.value {
            Value::Scalar(scalar) => self.bytes += scalar.text.len(),
            Value::List(list) => list.iter().for_each(|node| self.add(node, depth + 1)),
            Value::Map(map) => map.0.iter().for_each(|(_, node)| self.add(node, depth + 1)),
        }
    }
}
