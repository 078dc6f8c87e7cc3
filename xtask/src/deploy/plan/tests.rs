//! Plans for what there may be.

use serde_json::json;

use super::*;

fn names() -> Names {
    Names {
        deployment: "prod".to_owned(),
        region: "eu-west-1".to_owned(),
        account: "123456789012".to_owned(),
    }
}

fn desired(servers: usize) -> Desired {
    let zones = ["a", "b", "c"];
    Desired {
        binary: "b1".to_owned(),
        function: Function {
            code: "c1".to_owned(),
            memory: 1769,
            timeout: 900,
            concurrency: None,
            subnets: ["subnet-a".to_owned()].into(),
        },
        function_policy: json!({"f": 1}),
        server_policy: json!({"s": 1}),
        sources: [Source::Group(Side::Function), Source::Group(Side::Server)].into(),
        servers: (0..servers)
            .map(|server| Server {
                subnet: format!("subnet-{}", zones[server % 3]),
                zone: zones[server % 3].to_owned(),
                instance_type: "t3.small".to_owned(),
                setup: "u1".to_owned(),
                volume: 8,
            })
            .collect(),
        wait: true,
        private: false,
    }
}

/// What there is when all of it was done.
fn done(desired: &Desired) -> Observed {
    let mut observed = Observed {
        bucket: Some(Bucket {
            ready: true,
            token: Some("t".to_owned()),
            binaries: [desired.binary.clone()].into(),
            nodes: BTreeMap::new(),
        }),
        function_role: Some(Role { policy: Some(desired.function_policy.clone()) }),
        server_role: Some(Role { policy: Some(desired.server_policy.clone()) }),
        profile: Some(true),
        log_group: true,
        groups: Side::ALL
            .map(|side| {
                let sources = if side == Side::Server { desired.sources.clone() } else { BTreeSet::new() };
                (side, Group { id: format!("sg-{side}"), sources })
            })
            .into(),
        elastic: BTreeMap::new(),
        volumes: Vec::new(),
        instances: Vec::new(),
        function: Some(DeployedFunction {
            is: desired.function.clone(),
            token: Some("t".to_owned()),
            state: "Active".to_owned(),
        }),
    };
    for (server, should) in desired.servers.iter().enumerate() {
        observed.volumes.push(Volume {
            id: format!("vol-{server}"),
            server,
            zone: should.zone.clone(),
            instance: Some(format!("i-{server}")),
            joined: true,
            address: None,
        });
        let elastic = Elastic { id: format!("eip-{server}"), instance: Some(format!("i-{server}")) };
        observed.elastic.insert(server, elastic);
        observed.instances.push(Instance {
            id: format!("i-{server}"),
            server,
            instance_type: should.instance_type.clone(),
            setup: should.setup.clone(),
            runs: desired.binary.clone(),
            stopped: false,
            host: format!("10.0.0.{server}"),
        });
    }
    tell(&mut observed, desired.servers.len());
    observed
}

fn tell(observed: &mut Observed, servers: usize) {
    let addresses = observed.addresses(servers).unwrap();
    let nodes = (0..servers).map(|s| (s, node_file(&addresses, s, &observed.instances[s].runs))).collect();
    observed.bucket.as_mut().unwrap().nodes = nodes;
}

/// The steps that do something.
fn steps(desired: &Desired, observed: &Observed) -> Vec<String> {
    let plan = deploy(desired, observed);
    let doing = plan.0.iter().filter(|step| step.action != Action::Keep);
    doing.map(|step| step.text(&names()).split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn from_nothing_everything_is_created() {
    let desired = desired(3);
    let plan = deploy(&desired, &Observed::default());
    assert!(plan.0.iter().all(|step| step.action == Action::Create), "{plan:?}");
    let at = |resource: &Resource| plan.0.iter().position(|step| step.resource == *resource).unwrap();
    // Nothing comes before what it needs.
    for (first, then) in [
        (Resource::Bucket, Resource::Token),
        (Resource::ServerRole, Resource::Profile),
        (Resource::Profile, Resource::Server(0)),
        (Resource::Group(Side::Function), Resource::Group(Side::Server)),
        (Resource::Group(Side::Server), Resource::Server(0)),
        (Resource::Volume(2), Resource::Server(2)),
        (Resource::Elastic(2), Resource::Server(2)),
        (Resource::Server(2), Resource::Nodes),
        (Resource::Nodes, Resource::Cluster),
        (Resource::Token, Resource::Function),
        (Resource::FunctionRole, Resource::Function),
        (Resource::LogGroup, Resource::Function),
    ] {
        assert!(at(&first) < at(&then), "{first:?} {then:?}");
    }
}

#[test]
fn when_all_is_done_there_is_nothing_to_do() {
    let desired = desired(3);
    assert!(deploy(&desired, &done(&desired)).is_empty(), "{:?}", steps(&desired, &done(&desired)));
}

#[test]
fn another_program_updates_the_function_and_restarts_the_servers() {
    let mut desired = desired(2);
    let observed = done(&desired);
    desired.binary = "b2".to_owned();
    desired.function.code = "c2".to_owned();
    assert_eq!(
        steps(&desired, &observed),
        [
            "create program b2",
            "update function crucial-prod: its program",
            "restart server 0: its program",
            "restart server 1: its program",
            "delete program b1: no server runs it",
        ]
    );
    // Interrupted after the first server.
    let mut half = observed;
    half.instances[0].runs = "b2".to_owned();
    tell(&mut half, 2);
    half.bucket.as_mut().unwrap().binaries.insert("b2".to_owned());
    half.function.as_mut().unwrap().is.code = "c2".to_owned();
    assert_eq!(
        steps(&desired, &half),
        ["restart server 1: its program", "delete program b1: no server runs it"]
    );
}

#[test]
fn each_difference_is_one_step_with_its_reason() {
    type Change = fn(&mut Observed);
    let desired = desired(2);
    let cases: [(Change, &str); 14] = [
        (
            |o| o.bucket.as_mut().unwrap().ready = false,
            "update bucket crucial-prod-123456789012-eu-west-1: finish its settings",
        ),
        (
            |o| o.function_role.as_mut().unwrap().policy = None,
            "update role crucial-prod-eu-west-1-function: what it allows",
        ),
        (|o| o.server_role = None, "create role crucial-prod-eu-west-1-server"),
        (|o| o.profile = Some(false), "update instance profile crucial-prod-eu-west-1-server: its role"),
        (|o| o.log_group = false, "create log group /aws/lambda/crucial-prod"),
        (
            |o| {
                _ = o
                    .groups
                    .get_mut(&Side::Server)
                    .unwrap()
                    .sources
                    .insert(Source::Cidr("0.0.0.0/0".to_owned()))
            },
            "update security group crucial-prod-server: who may connect",
        ),
        (|o| o.volumes[1].instance = None, "update server 1: attach its volume"),
        (|o| o.elastic.get_mut(&1).unwrap().instance = None, "update server 1: its public address"),
        (|o| o.instances[1].setup = "u0".to_owned(), "replace server 1: what it does when it starts"),
        (|o| o.instances[1].instance_type = "t3.nano".to_owned(), "replace server 1: t3.nano → t3.small"),
        (
            |o| o.instances[1].host = "10.9.9.9".to_owned(),
            "update addresses of the servers: where the servers are",
        ),
        (
            |o| o.function.as_mut().unwrap().is.memory = 512,
            "update function crucial-prod: memory 512 → 1769 MiB",
        ),
        (|o| o.function.as_mut().unwrap().token = None, "update function crucial-prod: its token"),
        (
            |o| {
                let mut second = o.instances[1].clone();
                second.id = "i-late".to_owned();
                o.instances.push(second);
            },
            "delete instance i-late: a second server 1, of a run that was interrupted",
        ),
    ];
    for (change, step) in cases {
        let mut observed = done(&desired);
        change(&mut observed);
        assert_eq!(steps(&desired, &observed), [step]);
    }
}

#[test]
fn a_server_that_starts_is_waited_for() {
    let desired = desired(2);
    let mut observed = done(&desired);
    observed.instances[1].stopped = true;
    let joins = "update cluster of the servers: server 1 joins";
    assert_eq!(steps(&desired, &observed), ["update server 1: it is stopped", joins]);
    // Kept volumes of a deployment that was removed.
    observed.instances.pop();
    observed.volumes[1].instance = None;
    observed.elastic.get_mut(&1).unwrap().instance = None;
    let steps = steps(&desired, &observed);
    assert_eq!(steps, ["create server 1", "update addresses of the servers: where the servers are", joins]);
}

#[test]
fn fewer_servers_leave_from_the_highest() {
    let all = done(&desired(3));
    let desired = desired(1);
    let steps = steps(&desired, &all);
    let deleted: Vec<_> = steps.iter().filter(|step| step.starts_with("delete")).collect();
    assert_eq!(
        deleted,
        ["delete server 2: there are to be fewer servers", "delete server 1: there are to be fewer servers"]
    );
}

#[test]
fn a_server_without_its_volume_joins_the_others() {
    let addresses = ["a:1".to_owned(), "b:1".to_owned()];
    assert_eq!(node_file(&addresses, 1, "x"), "BINARY=x\nADVERTISE=b:1\nJOIN=a:1,b:1\n");

    let desired = desired(3);
    let mut observed = done(&desired);
    observed.volumes.remove(0);
    assert_eq!(
        steps(&desired, &observed),
        [
            "create volume of server 0",
            "update cluster of the servers: server 0 joins",
            "replace server 0: its volume is gone"
        ]
    );
}

#[test]
fn what_is_removed_is_all_there_is_in_an_order_that_works() {
    let desired = desired(2);
    let observed = done(&desired);
    let text = |plan: Plan| plan.0.iter().map(|step| step.text(&names())).collect::<Vec<_>>();
    let all = text(destroy(&observed, false));
    assert_eq!(all.len(), 1 + 2 + 2 + 2 + 3 + 1 + 1 + 2 + 1);
    assert!(all.iter().all(|step| step.starts_with("delete")));
    let at = |part: &str| all.iter().position(|step| step.contains(part)).unwrap();
    assert!(at("instance i-0") < at("volume of server 0"));
    assert!(at("function crucial-prod") < at("group crucial-prod-function"));
    assert!(at("group crucial-prod-server") < at("group crucial-prod-function"));
    assert!(at("instance profile") < at("role crucial-prod-eu-west-1-server"), "{all:?}");

    let kept: Vec<_> =
        text(destroy(&observed, true)).into_iter().filter(|step| step.starts_with("keep")).collect();
    assert_eq!(
        kept,
        [
            "keep    volume of server 0",
            "keep    volume of server 1",
            "keep    public address of server 0",
            "keep    public address of server 1",
        ]
    );
    assert!(destroy(&Observed::default(), false).0.is_empty());
}
