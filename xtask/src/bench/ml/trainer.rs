//! Spark's MLlib, and Ray with numpy: the same training in programs of their own.

use std::{ffi::OsString, fs, path::PathBuf};

use super::{WORKERS, data::Data};
use crate::{
    Error,
    bench::{
        child::{Child, Pipes},
        peers,
        report::Peer,
    },
};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    KMeans,
    Logistic,
}

/// How a peer is called in tables, and how it is installed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    name: &'static str,
    pub(super) install: &'static str,
}

pub(super) const SPARK: Kind = Kind {
    name: "Spark MLlib",
    install: "python3 -m venv $PEERS/spark && $PEERS/spark/bin/pip install pyspark numpy, and a JDK: apt-get install \
              openjdk-17-jre-headless",
};

pub(super) const RAY: Kind = Kind {
    name: "Ray, numpy",
    install: "python3 -m venv $PEERS/ray && $PEERS/ray/bin/pip install ray numpy",
};

/// A peer that holds the data in memory and trains when it is told.
#[derive(Debug)]
pub(super) struct Trainer {
    version: String,
    child: Child,
}

impl Trainer {
    /// Spark, without its Python: its shell runs a program in Scala. None if it is not installed.
    pub(super) fn spark(data: &Data, model: Model, iterations: usize) -> Result<Option<Self>, Error> {
        let java = match std::env::var_os("JAVA_HOME") {
            Some(home) => PathBuf::from(home).join("bin/java").into_os_string(),
            None => "java".into(),
        };
        let has_java = std::process::Command::new(java).arg("-version").output().is_ok();
        let Some(python) = peers::python("spark", "pyspark").filter(|_| has_java) else { return Ok(None) };
        let script = data.folder().join("spark.scala");
        fs::write(&script, include_str!("spark.scala"))?;
        let (what, file) = match model {
            Model::KMeans => ("kmeans", data.points()),
            Model::Logistic => ("logistic", data.examples()),
        };
        let text = |path: PathBuf| path.display().to_string();
        let settings = [
            ("PYSPARK_PYTHON", text(python.clone())),
            ("SPARK_LOCAL_IP", "127.0.0.1".to_owned()),
            ("SPARK_SUBMIT_OPTS", "-Dscala.usejavacp=true".to_owned()),
            ("ML_WHAT", what.to_owned()),
            ("ML_ITERATIONS", iterations.to_string()),
            ("ML_DATA", text(file)),
            ("ML_CENTRES", text(data.centres())),
        ];
        let master = format!("local[{WORKERS}]");
        let mut args: Vec<OsString> = [
            // What `spark-shell` does, but without a shell in between that would outlive this.
            "--class",
            "org.apache.spark.repl.Main",
            "--master",
            &master,
            "--driver-memory",
            "6g",
            "--conf",
            "spark.ui.enabled=false",
            "--conf",
            "spark.ui.showConsoleProgress=false",
            "--conf",
            "spark.driver.host=127.0.0.1",
            "spark-shell",
            "-i",
        ]
        .map(OsString::from)
        .into();
        args.push(script.into());
        let submit = python.with_file_name("spark-submit");
        Self::start(submit.as_os_str(), args, &settings).map(Some)
    }

    /// Ray, for k-means. None if it is not installed.
    pub(super) fn ray(data: &Data, iterations: usize) -> Result<Option<Self>, Error> {
        let Some(python) = peers::python("ray", "ray, numpy") else { return Ok(None) };
        let settings = [
            ("RAY_USAGE_STATS_ENABLED", "0"),
            ("PYTHONWARNINGS", "ignore"),
            // As many threads as workers.
            ("OMP_NUM_THREADS", "1"),
            ("OPENBLAS_NUM_THREADS", "1"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let args: [OsString; 5] = [
            "-c".into(),
            include_str!("ray.py").into(),
            data.points().into(),
            data.centres().into(),
            iterations.to_string().into(),
        ];
        Self::start(python.as_os_str(), args, &settings).map(Some)
    }

    fn start(
        program: &std::ffi::OsStr,
        args: impl IntoIterator<Item = OsString>,
        settings: &[(&str, String)],
    ) -> Result<Self, Error> {
        let mut child = Child::start(program, args, settings, Pipes::Both)?;
        let version = child.said("version ")?;
        Ok(Trainer { version, child })
    }

    /// One training: the time in milliseconds, and the result.
    pub(super) fn turn(&mut self) -> Result<(f64, f64), Error> {
        self.child.tell("train")?;
        let answer = self.child.said("trained ")?;
        let numbers: Vec<f64> = answer.split_whitespace().flat_map(str::parse).collect();
        let [seconds, result] = numbers[..] else {
            return Err(Error::Message(format!("`{answer}` is not a time and a result")));
        };
        Ok((seconds * 1e3, result))
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // Their own children end when they do so in order.
        self.child.finish();
    }
}

impl Kind {
    /// What a figure says of it.
    pub(super) fn peer(self, trainer: Option<&Trainer>, value: f64) -> Peer {
        match trainer {
            Some(trainer) => Peer::Measured { name: self.label(trainer), value },
            None => Peer::Missing { name: self.name.to_owned(), install: self.install },
        }
    }

    pub(super) fn label(self, trainer: &Trainer) -> String {
        match self.name.split_once(", ") {
            Some((name, with)) => format!("{name} {}, {with}", trainer.version),
            None => format!("{} {}", self.name, trainer.version),
        }
    }
}
