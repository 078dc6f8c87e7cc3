//! Training and use of decision trees and random forests, by threads: release 0.4.1 of the crate
//! [rafor](https://crates.io/crates/rafor) by Andrei Stroganov, under the licences MIT and Apache 2.0. It is the crate's
//! source, formatted as the rest of this repository, with all of its tests but one, whose data is large,
//! and with one defect mended: a compact tree that has not been trained yet could not be serialized; the folder
//! `random_forest_std` has it without what was changed here, so that its threads are cloud threads.

mod classes_mapping;
mod decision_tree;
pub mod ensemble_classifier;
mod ensemble_predictor;
pub mod ensemble_regressor;
mod ensemble_trainer;
pub mod trainer_builders;
pub mod tree_classifier;
pub mod tree_regressor;
use argminmax::ArgMinMax;
use classes_mapping::{ClassDecode, ClassesMapping};
pub use decision_tree::{BlockTree, CompactTree, MaxFeaturesPolicy, Predictor, Resolve, Trainable};

type ClassTarget = u32;
type FloatTarget = f32;
type SampleWeight = f32;

type IndexRange = std::ops::Range<usize>;

pub mod prelude {
    pub use crate::rafor::MaxFeaturesPolicy;
    pub use crate::rafor::classes_mapping::ClassDecode;
    pub use crate::rafor::trainer_builders::{CommonTrainerBuilder, EnsembleTrainerBuilder};
}

pub mod dt {
    //! Decision Tree implementation.
    pub use crate::rafor::tree_classifier::Classifier;
    pub use crate::rafor::tree_regressor::Regressor;
}

pub mod rf {
    //! Random Forest implementation.
    pub use crate::rafor::ensemble_classifier::Classifier;
    pub use crate::rafor::ensemble_regressor::Regressor;
}

fn classify(proba: &[f32], mapping: &ClassesMapping) -> Vec<i64> {
    assert!(proba.len().is_multiple_of(mapping.num_classes()));
    proba.chunks(mapping.num_classes()).map(|c| mapping.decode(c.argmax())).collect()
}

#[derive(Clone, PartialEq, Debug)]
struct Trainset<'a, T> {
    pub data: Vec<f32>,
    pub targets: &'a [T],
    pub num_features: usize,
}

impl<'a, T> Trainset<'a, T> {
    pub fn with_transposed(data: &[f32], targets: &'a [T]) -> Self {
        assert!(data.len().is_multiple_of(targets.len()));
        let num_features = data.len() / targets.len();

        let mut res: Vec<f32> = Vec::with_capacity(data.len());
        for feature in 0..num_features {
            res.extend(data.iter().skip(feature).step_by(num_features));
        }

        Self { data: res, targets, num_features }
    }

    pub fn size(&self) -> usize {
        self.targets.len()
    }
}

pub(crate) trait BatchPredictor {
    fn predict(&self, dataset: &[f32]) -> Vec<f32>;
}

#[cfg(test)]
mod tests;
