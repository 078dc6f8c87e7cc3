//! `cargo xtask deploy` and what belongs to it, as a user runs them in a workspace of their own: the real SDK and real HTTP
//! against moto, with functions that run and machines that start.

mod lab;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use lab::{
    Lab, REPOSITORY, Servers, assert_says, fails, ok,
    proxy::{Fate, allowed},
};

/// What a deployment prints of its steps: `create`, `update`, `restart`, ...
fn steps(text: &str) -> Vec<String> {
    // Cargo indents what it says, too.
    let verbs = ["create", "update", "restart", "replace", "delete"];
    let is_step = |line: &&str| {
        line.starts_with("  ") && line.split_whitespace().next().is_some_and(|verb| verbs.contains(&verb))
    };
    text.lines().filter(is_step).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The program, with the deployment's settings.
fn run(lab: &Lab, threads: &str) -> String {
    let mut command = lab.cargo(&["run", "--quiet", "--", threads]);
    command.env("CRUCIAL_DEPLOYMENT", "app").env("CRUCIAL_LEASE", "2s");
    ok(command)
}

/// The servers' addresses, from the status of the deployment.
fn addresses(status: &str) -> Vec<String> {
    let lines = status.lines().filter(|line| line.starts_with("server "));
    lines.map(|line| line.split_whitespace().nth(4).unwrap().to_owned()).collect()
}

/// Waits until a server says of one at this address that it is in this state, and owns something, or nothing.
fn await_state(status: impl Fn() -> Command, address: &str, state: &str, owns: bool) {
    let start = Instant::now();
    loop {
        let status = ok(status());
        let is_so = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, at, is, count] => at == address && is == state && (count != "0") == owns,
            _ => false,
        };
        if status.lines().any(is_so) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{address} is never {state}: {status}");
        sleep(Duration::from_millis(200));
    }
}

/// Waits until others know that a server is lost, and own what it had.
fn await_loss(status: impl Fn() -> Command, lost: &str) {
    await_state(status, lost, "down", false);
}

#[track_caller]
fn assert_nothing_is_left(lab: &Lab) {
    assert_says(&ok(lab.task(&["destroy", "--yes"])), &["nothing to do", "nothing of app is left"]);
    assert!(!lab.program.join(".crucial").exists());
}

/// Everything that was asked for is in the policy of whoever deploys.
#[track_caller]
fn assert_allowed(lab: &Lab) {
    let allowed = allowed(include_str!("../../../docs/aws-deploy-policy.json"));
    let asked: BTreeSet<_> =
        lab.proxy.actions().into_iter().filter(|action| action != "sts:GetCallerIdentity").collect();
    let missing: Vec<_> = asked.difference(&allowed).collect();
    assert!(missing.is_empty() && asked.len() > 20, "{missing:?} of {asked:?}");
}

#[test]
fn a_program_is_deployed_used_changed_and_removed() {
    let Some(lab) = Lab::start(Servers::Scripts) else { return };
    deploy_use_change_and_remove(&lab);
}

/// The same on machines that run the user data from their first start on.
#[test]
fn machines_run_their_user_data() {
    let Some(lab) = Lab::whole("machines_run_their_user_data") else { return };
    deploy_use_change_and_remove(&lab);
}

fn deploy_use_change_and_remove(lab: &Lab) {
    // Who looks sees what would be done, and does nothing.
    let plan = ok(lab.deploy(&["--dry-run"]));
    assert_says(&plan, &["create  function crucial-app", "create  server 2", "an hour for 3 servers"]);
    assert!(lab.proxy.actions().iter().all(|action| !action.contains(":Create") && !action.contains(":Put")));

    let up = ok(lab.deploy(&["--yes"]));
    assert_says(&up, &["done in", "CRUCIAL_DEPLOYMENT=app cargo run"]);
    println!("up: {}", up.lines().find(|line| line.starts_with("done in")).unwrap());
    let again = ok(lab.deploy(&["--yes"]));
    assert_says(&again, &["nothing to do"]);
    assert_eq!(steps(&again), [""; 0]);

    // The token is nowhere but where it belongs.
    let token = fs::read_to_string(lab.program.join(".crucial/app.token")).unwrap();
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    assert!(!up.contains(&token) && !again.contains(&token));
    let mode = fs::metadata(lab.program.join(".crucial/app.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The region is that of the function, the objects are on the servers.
    assert_says(&run(lab, "5"), &["functions first, total 15"]);
    let status = ok(lab.task(&["status"]));
    assert_says(&status, &["function crucial-app  Active", "server 2", "reached from here", "volume 0"]);
    assert!(!status.contains("not reached"), "{status}");

    // Another program: one server after the other, and nothing is lost.
    lab.change("first", "second");
    let changed = ok(lab.deploy(&["--yes"]));
    let done = steps(&changed);
    assert_eq!(done.len(), 6, "{changed}");
    assert_says(&changed, &["update  function crucial-app: its program", "restart server 2: its program"]);
    println!(
        "changed program: {}",
        changed.lines().filter(|line| line.contains(" s")).collect::<Vec<_>>().join("\n")
    );
    assert_says(&run(lab, "5"), &["functions second, total 30"]);
    assert_says(&ok(lab.deploy(&["--yes"])), &["nothing to do"]);

    // Without a server, too: as soon as the others know, for a run that is under way may lose ephemeral objects.
    let servers = addresses(&ok(lab.task(&["status"])));
    lab.proxy.machines().kill(1);
    let status = || {
        let mut command = lab.cargo(&["run", "--quiet", "--", "crucial", "status", "--server", &servers[0]]);
        command.env("CRUCIAL_DEPLOYMENT", "app");
        command
    };
    await_loss(status, &servers[1]);
    assert_says(&run(lab, "50"), &["functions second, total 1305"]);

    // It starts again, with the data of its disk.
    lab.proxy.machines().revive(1);
    await_state(status, &servers[1], "up", true);
    assert_says(&run(lab, "5"), &["functions second, total 1320"]);

    // All goes but the data, and all comes back.
    let destroyed = ok(lab.task(&["destroy", "--yes", "--keep-data"]));
    assert_says(&destroyed, &["keep    volume of server 0", "are kept for a later deployment"]);
    let back = ok(lab.deploy(&["--yes"]));
    assert_says(&back, &["keep    volume of server 0", "create  server 0"]);
    assert_says(&run(lab, "5"), &["functions second, total 1335"]);

    let destroyed = ok(lab.task(&["destroy", "--yes"]));
    assert_says(&destroyed, &["nothing of app is left"]);
    assert_nothing_is_left(lab);
    assert_allowed(lab);
}

/// The examples, with fifty functions at once, before and after a server is lost.
#[test]
#[ignore = "builds the examples for release with the AWS SDK: some minutes"]
fn examples_run_on_fifty_functions_and_without_a_server() {
    let Some(mut lab) = Lab::start(Servers::Scripts) else { return };
    lab.program = fs::canonicalize(REPOSITORY).unwrap();
    let map = std::env::temp_dir().join(format!("crucial-deployed-{}.png", std::process::id()));
    let map = map.to_str().unwrap();
    for (name, options, result) in [
        ("pi", vec!["--threads", "50", "--darts", "1000000"], "π"),
        ("kmeans", vec!["--workers", "50", "--map", map], "fingerprint"),
    ] {
        let program = format!("{name}_std");
        ok(lab.cargo(&["build", "--release", "--package", "examples", "--bin", &program]));
        let run = |program: &str| {
            let start = Instant::now();
            let mut command = lab.program(program);
            command.args(&options).env("CRUCIAL_DEPLOYMENT", name).env("CRUCIAL_LEASE", "2s");
            let text = ok(command);
            println!("{program}: {:.1?}", start.elapsed());
            text.lines().find(|line| line.starts_with(result)).unwrap().to_owned()
        };
        let task = |verb: &str, options: &[&str]| {
            let mut command = lab.task(&[verb, "--package", "examples", "--bin", name]);
            command.args(options);
            let text = ok(command);
            println!("{text}");
            text
        };
        let options: Vec<_> = lab.network.iter().map(|option| &**option).chain(["--yes"]).collect();
        task("deploy", &options);
        let expected = run(&program);
        assert_eq!(run(name), expected);
        let servers = addresses(&task("status", &[]));
        lab.proxy.machines().kill(1);
        let status = || {
            let mut command = lab.program(name);
            command.args(["crucial", "status", "--server", &servers[0]]).env("CRUCIAL_DEPLOYMENT", name);
            command
        };
        await_loss(status, &servers[1]);
        assert_eq!(run(name), expected);
        task("destroy", &["--yes"]);
    }
    fs::remove_file(map).unwrap();
    assert!(!lab.program.join(".crucial").exists());
}

/// As it is without `--private`: nobody can connect to such servers here, so they don't run.
#[test]
fn servers_have_public_addresses_that_stay() {
    let Some(lab) = Lab::start(Servers::Off) else { return };
    let options = ["--client-cidr", "192.0.2.0/24,2001:db8::/32", "--concurrency", "7"];
    let deploy = || {
        let mut command = lab.task(&["deploy", "--profile", "dev", "--yes", "--no-wait", "--servers", "2"]);
        command.args(options);
        command
    };
    let settings = || fs::read_to_string(lab.program.join(".crucial/app.toml")).unwrap();
    assert_says(&ok(deploy()), &["create  public address of server 1"]);
    let first = settings();
    assert_eq!(first.matches("compute-1.amazonaws.com:7878").count(), 2, "{first}");
    assert_says(&ok(deploy()), &["nothing to do"]);
    ok(lab.task(&["logs"]));

    // Other machines have the same addresses.
    ok(lab.task(&["destroy", "--yes", "--keep-data"]));
    assert_says(&ok(deploy()), &["keep    public address of server 1", "create  server 1"]);
    assert_eq!(settings(), first);
    ok(lab.task(&["destroy", "--yes"]));
    assert_nothing_is_left(&lab);
    assert_allowed(&lab);
}

#[test]
fn what_is_interrupted_anywhere_goes_on() {
    let Some(lab) = Lab::start(Servers::Off) else { return };
    let until_done = |command: &dyn Fn() -> Command| {
        for runs in 1.. {
            assert!(runs < 40, "it makes no progress");
            let mut child = command().stdout(std::process::Stdio::null()).spawn().unwrap();
            // It is killed when something was done that it doesn't know of yet.
            lab.proxy.kill_after(2 + runs % 4, child.id());
            let status = child.wait().unwrap();
            lab.proxy.spare();
            if status.success() {
                return runs;
            }
            assert_eq!(status.code(), None, "it was not killed, but failed");
        }
        unreachable!()
    };
    let runs = until_done(&|| lab.deploy(&["--yes", "--no-wait", "--servers", "2"]));
    assert!(runs > 5, "{runs} runs");
    assert_says(&ok(lab.deploy(&["--yes", "--no-wait", "--servers", "2"])), &["nothing to do"]);
    let runs = until_done(&|| lab.task(&["destroy", "--yes"]));
    assert!(runs > 3, "{runs} runs");
    assert_nothing_is_left(&lab);
    assert_allowed(&lab);
}

#[test]
fn what_passes_is_waited_for() {
    let Some(lab) = Lab::start(Servers::Off) else { return };
    let refuse = |action, times, status, code, message| {
        lab.proxy.plan(action, times, Fate::Refuse { status, code, message });
    };
    // A role, a profile and a group that were made just now are not known everywhere.
    let role = "The role defined for the function cannot be assumed by Lambda.";
    refuse("lambda:CreateFunction", 3, 400, "InvalidParameterValueException", role);
    refuse(
        "ec2:RunInstances",
        2,
        400,
        "InvalidParameterValue",
        "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
    );
    refuse("iam:PutRolePolicy", 1, 404, "NoSuchEntity", "The role with name x cannot be found.");
    refuse(
        "ec2:AuthorizeSecurityGroupIngress",
        1,
        400,
        "InvalidGroup.NotFound",
        "The security group 'x' does not exist",
    );
    refuse("s3:PutBucketTagging", 1, 404, "NoSuchBucket", "The specified bucket does not exist");
    refuse("ec2:AttachVolume", 2, 400, "IncorrectState", "Volume is not in the 'available' state");
    // The account does too much at once.
    refuse("ec2:CreateVolume", 2, 503, "RequestLimitExceeded", "Request limit exceeded.");
    refuse("iam:CreateRole", 2, 400, "Throttling", "Rate exceeded");
    refuse("lambda:GetFunction", 2, 429, "TooManyRequestsException", "Rate exceeded");
    // A function isn't there at once.
    lab.proxy.plan("lambda:GetFunctionConfiguration", 3, Fate::Edit("\"Active\"", "\"Pending\""));
    ok(lab.deploy(&["--yes", "--no-wait", "--servers", "1"]));
    assert_eq!(lab.proxy.left(), 0);
    assert_says(&ok(lab.deploy(&["--yes", "--no-wait", "--servers", "1"])), &["nothing to do"]);

    // An update is under way.
    refuse(
        "lambda:UpdateFunctionConfiguration",
        2,
        409,
        "ResourceConflictException",
        "An update is in progress",
    );
    let more = ok(lab.deploy(&["--yes", "--no-wait", "--servers", "1", "--memory", "512"]));
    assert_says(&more, &["update  function crucial-app: memory 1769 → 512 MiB"]);

    // Interfaces of functions and volumes of machines are there for a while.
    refuse("ec2:DeleteSecurityGroup", 3, 400, "DependencyViolation", "resource sg-1 has a dependent object");
    refuse("ec2:DeleteVolume", 2, 400, "VolumeInUse", "Volume is currently attached");
    refuse("iam:DeleteRole", 1, 409, "DeleteConflict", "Cannot delete entity");
    ok(lab.task(&["destroy", "--yes"]));
    assert_eq!(lab.proxy.left(), 0);
    assert_nothing_is_left(&lab);
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    let Some(lab) = Lab::start(Servers::Off) else { return };
    assert_says(&fails(lab.deploy(&[])), &["no terminal", "--yes"]);
    assert_says(&fails(lab.deploy(&["--yes", "--name", "My_App"])), &["`My_App`", "--name"]);
    let mut command = lab.deploy(&["--yes"]);
    assert_says(
        &fails({
            command.env_remove("AWS_REGION");
            command
        }),
        &["AWS_REGION is not set"],
    );
    let mut command = lab.deploy(&["--yes"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    assert_says(&fails(command), &["Are there credentials?", "AWS_PROFILE"]);
    let mut command = lab.deploy(&["--yes"]);
    assert_says(
        &fails({
            command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
            command
        }),
        &["no answer from AWS"],
    );

    let refuse = |action, status, code| {
        lab.proxy.plan(action, 1, Fate::Refuse { status, code, message: "You are not authorized" });
    };
    refuse("iam:CreateRole", 403, "AccessDenied");
    let denied = fails(lab.deploy(&["--yes", "--no-wait"]));
    assert_says(
        &denied,
        &["the role crucial-app-us-east-1-function", "permission iam:CreateRole", "aws-deploy-policy.json"],
    );
    refuse("ec2:RunInstances", 400, "VcpuLimitExceeded");
    assert_says(&fails(lab.deploy(&["--yes", "--no-wait"])), &["server 0", "Service Quotas"]);
    ok(lab.task(&["destroy", "--yes"]));

    // Somebody else's function has the name.
    ok(lab.deploy(&["--yes", "--no-wait", "--servers", "1"]));
    lab.proxy.plan("lambda:GetFunction", 1, Fate::Edit("crucial:deployment", "another"));
    assert_says(
        &fails(lab.deploy(&["--yes", "--no-wait"])),
        &["the function crucial-app", "somebody else's"],
    );
    ok(lab.task(&["destroy", "--yes"]));
    assert_nothing_is_left(&lab);

    // The default network is taken if none is named; here it is gone.
    lab.proxy.plan("ec2:DescribeVpcs", 1, Fate::Edit("vpcSet>", "vpcSetOfOthers>"));
    assert_says(
        &fails(lab.task(&["deploy", "--yes", "--profile", "dev"])),
        &["no default VPC", "create-default-vpc"],
    );

    // A settings file that isn't there names itself and the remedy.
    let mut command = lab.cargo(&["run", "--quiet"]);
    command.env("CRUCIAL_DEPLOYMENT", "app");
    assert_says(&fails(command), &[".crucial/app.toml", "cargo xtask deploy --name app"]);
    // The alias that users have.
    let mut alias = lab.cargo(&["xtask", "status"]);
    assert_says(
        &ok({
            alias.env("AWS_REGION", "us-east-1");
            alias
        }),
        &["no function", "no servers"],
    );
}
