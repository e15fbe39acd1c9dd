//! The hashes of RFC 6962: leaves, nodes, and the root of any number of leaves that come one after the other.

use sha2::{Digest as _, Sha256};

pub(super) type Hash = [u8; 32];

pub(super) fn leaf(record: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(record).finalize().into()
}

pub(super) fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Of no leaves.
pub(super) fn empty() -> Hash {
    Sha256::digest([]).into()
}

/// The largest power of two below `count`, which is at least two.
pub(super) fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The roots of the whole subtrees so far, the largest first: all that is needed to go on.
#[derive(Debug, Default)]
pub(super) struct Growing {
    size: u64,
    roots: Vec<Hash>,
}

impl Growing {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; gives the roots of the subtrees that it completes, of 2, 4, 8 … leaves.
    pub(super) fn push(&mut self, leaf: Hash) -> Vec<Hash> {
        let (mut hash, mut completed) = (leaf, Vec::new());
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node(&left, &hash);
                completed.push(hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
        completed
    }

    pub(super) fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else { return empty() };
        roots.fold(*last, |right, left| node(left, &right))
    }
}

/// The root of some leaves.
pub(super) fn root_of(leaves: &[Hash]) -> Hash {
    let mut growing = Growing::default();
    for leaf in leaves {
        growing.push(*leaf);
    }
    growing.root()
}

pub(super) fn hex(hash: &Hash) -> String {
    crate::model::Digest(*hash).hex()
}

#[cfg(test)]
mod tests {
    use super::{Growing, Hash, empty, leaf, node, split};

    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(split(many.len() as u64) as usize);
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        let (mut growing, mut leaves) = (Growing::default(), Vec::new());
        for number in 0_u32..300 {
            assert_eq!(growing.root(), by_definition(&leaves), "of {number}");
            let leaf = leaf(&number.to_be_bytes());
            leaves.push(leaf);
            for (height, completed) in growing.push(leaf).iter().enumerate() {
                let count = 2 << height;
                assert_eq!(*completed, by_definition(&leaves[leaves.len() - count..]));
            }
        }
    }
}
