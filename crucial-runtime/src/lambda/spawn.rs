//! Starts the process of an instance.

use std::{env, io, net::SocketAddr, process::Stdio, time::SystemTime};

use tokio::process::{Child, Command};

use super::{
    clock,
    function::{Function, REGION, VERSION},
    output::{OutputPipe, OutputStream},
    parent::PARENT_VARIABLE,
};

/// Starts a process that finds its Runtime API at `runtime_api`.
///
/// The signal that ends an instance with its parent follows the *thread* that started it, so call this on one
/// that lives as long as the service.
pub(crate) fn spawn(function: &Function, runtime_api: SocketAddr) -> io::Result<(Child, [OutputPipe; 2])> {
    let (stdout, child_stdout) = OutputPipe::new(OutputStream::Stdout)?;
    let (stderr, child_stderr) = OutputPipe::new(OutputStream::Stderr)?;

    let mut command = Command::new(&function.program);
    command
        .args(&function.args)
        .stdin(Stdio::null())
        .stdout(child_stdout)
        .stderr(child_stderr)
        // A terminal sends Ctrl-C to a whole group. It is for the program, which ends its instances then; if it
        // reached them, too, the program would see them fail.
        .process_group(0)
        .kill_on_drop(true);

    // If this process is a function itself, its instances are not that function.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_reserved) {
            command.env_remove(name);
        }
    }
    let settings = function.env.iter().filter(|(name, _)| !name.to_str().is_some_and(is_reserved));
    command.envs(settings.map(|(name, value)| (name, value)));

    let directory = env::current_dir()?;
    command
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", &function.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", VERSION)
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory.to_string())
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name))
        .env("AWS_LAMBDA_LOG_STREAM_NAME", clock::log_stream(SystemTime::now()))
        .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
        .env("_HANDLER", "bootstrap")
        .env("LAMBDA_TASK_ROOT", &directory)
        .env("LAMBDA_RUNTIME_DIR", &directory)
        .env(PARENT_VARIABLE, std::process::id().to_string());
    // Lambda reserves these too, but a program that reaches for real AWS services from here needs its own.
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        let given = function.env.iter().any(|(key, _)| key == name);
        if !given && env::var_os(name).is_none() {
            command.env(name, REGION);
        }
    }

    Ok((command.spawn()?, [stdout, stderr]))
}

/// Whether the service alone sets this variable.
fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 14] = [
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        PARENT_VARIABLE,
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
    ];
    RESERVED.contains(&name)
}

/// Says why a program could not be started, in Lambda's words.
pub(crate) fn describe(function: &Function, error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    let text: String = characters.next().into_iter().flat_map(char::to_lowercase).chain(characters).collect();
    format!("fork/exec {}: {text}", function.program.display())
}
