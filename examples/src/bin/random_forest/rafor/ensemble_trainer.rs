use crate::rafor::{
    BlockTree, CompactTree, SampleWeight, Trainset, decision_tree, ensemble_classifier, ensemble_regressor,
    trainer_builders::{CommonTrainerBuilder, TrainConfigProvider},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crucial::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Configuration for training ensembles of trees.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct EnsembleConfig {
    /// Configuration of an individual tree in the ensemble.
    pub tree_config_proto: decision_tree::TrainConfig,

    /// Number of decision trees in ensemble.
    pub num_trees: usize,

    /// Number of threads to use. Please note that there is no specific value for "use all cores".
    /// The maximum number of threads can be obtained using, for instance, the crate `num_cpus`.
    pub num_threads: usize,
}

impl Default for EnsembleConfig {
    fn default() -> Self {
        Self { tree_config_proto: decision_tree::TrainConfig::default(), num_trees: 100, num_threads: 1 }
    }
}

impl TrainConfigProvider for EnsembleConfig {
    fn train_config(&mut self) -> &mut decision_tree::TrainConfig {
        &mut self.tree_config_proto
    }
}

impl CommonTrainerBuilder for EnsembleConfig {}

pub trait Trainable<T: Copy> {
    fn fit(&mut self, ts: &Trainset<T>, config: decision_tree::TrainConfig);
}

pub fn fit<Target, Trainee>(
    proto: Trainee,
    trainset: &Trainset<Target>,
    config: &EnsembleConfig,
) -> Vec<Trainee>
where
    Target: Copy + crucial::Data,
    Trainee: Trainable<Target> + Clone + crucial::Data,
{
    assert!(config.num_threads > 0);
    let seed = config.tree_config_proto.seed;
    let mut rng = SmallRng::seed_from_u64(seed);
    let seeds: Vec<u64> = (0..config.num_trees).map(|_| rng.random()).collect();

    let tree_idx = Arc::new(AtomicUsize::new(0));
    let mut ensemble: Vec<Trainee> = Vec::new();
    thread::scope(|s| {
        let mut handles = Vec::new();
        for _ in 0..config.num_threads {
            #[crucial::cloud_fn(instances(
                run<u32, ensemble_classifier::Trainee<BlockTree>>, run<u32, ensemble_classifier::Trainee<CompactTree>>,
                run<f32, ensemble_regressor::Trainee<BlockTree>>, run<f32, ensemble_regressor::Trainee<CompactTree>>,
            ))]
            fn run<Target: Copy + crucial::Data, Trainee: Trainable<Target> + Clone + crucial::Data>(
                proto: &Trainee,
                data: &[f32],
                targets: &[Target],
                config: &EnsembleConfig,
                seeds: &[u64],
                tree_idx: &AtomicUsize,
            ) -> Vec<Trainee> {
                let (num_trees, num_features) = (seeds.len(), data.len() / targets.len());
                let trainset = &Trainset { data: data.to_vec(), targets, num_features };
                let mut trainees: Vec<Trainee> = Vec::new();
                let mut id = 0;
                while id < num_trees {
                    id = tree_idx.fetch_add(1, Ordering::Relaxed);
                    if id < num_trees {
                        let mut rng = SmallRng::seed_from_u64(seeds[id]);
                        let scalars = bootstrap(trainset.size(), &mut rng);
                        let mut trainee = proto.clone();
                        let mut train_config = config.tree_config_proto.clone();
                        train_config.scale_weights(&scalars);
                        train_config.seed = rng.random();
                        trainee.fit(trainset, train_config);
                        trainees.push(trainee);
                    }
                }
                trainees
            }
            let handle = s.spawn(|| run(&proto, &trainset.data, trainset.targets, config, &seeds, &tree_idx));

            handles.push(handle);
        }

        for handle in handles {
            ensemble.extend(handle.join().unwrap());
        }
    });

    ensemble
}

fn bootstrap(num_samples: usize, rng: &mut SmallRng) -> Vec<SampleWeight> {
    let mut weights: Vec<SampleWeight> = vec![0.; num_samples];
    for _ in 0..num_samples {
        let i = rng.random_range(0..num_samples);
        weights[i] += 1.
    }
    weights
}
