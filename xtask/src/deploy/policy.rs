//! What functions and servers may do on AWS.

use serde_json::{Value, json};

use super::names::Names;

/// The name of the policy in each role.
pub(super) const POLICY: &str = "crucial";

/// Who takes on a role: a service.
pub(super) fn trust(service: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sts:AssumeRole",
        }],
    })
}

/// What functions may do: write their log, start cloud threads, and have Lambda connect them to the network. The program
/// itself can't do the last.
pub(super) fn function(names: &Names) -> Value {
    let arn = names.function_arn();
    let network = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ];
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Log",
                "Effect": "Allow",
                "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": format!("{}:*", names.log_group_arn()),
            },
            {
                "Sid": "CloudThreads",
                "Effect": "Allow",
                "Action": "lambda:InvokeFunction",
                "Resource": [arn, format!("{arn}:*")],
            },
            {"Sid": "Network", "Effect": "Allow", "Action": network, "Resource": "*"},
            {
                "Sid": "NetworkIsForLambdaOnly",
                "Effect": "Deny",
                "Action": network,
                "Resource": "*",
                "Condition": {"ArnEquals": {"lambda:SourceFunctionArn": arn}},
            },
        ],
    })
}

/// What servers may do: read what they run, and the token.
pub(super) fn server(names: &Names) -> Value {
    let readable = ["binaries", "nodes", "token"].map(|key| format!("{}/{key}*", names.bucket_arn()));
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "Read",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": readable,
        }],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The actions that a policy allows.
    fn allowed(policy: &Value) -> BTreeSet<String> {
        let actions = policy["Statement"].as_array().unwrap().iter().map(|statement| &statement["Action"]);
        actions
            .flat_map(|actions| actions.as_array().unwrap())
            .map(|action| action.as_str().unwrap().to_owned())
            .collect()
    }

    /// The actions in the text of the code: the first argument of each `ask`.
    fn asked() -> BTreeSet<String> {
        let sources = [
            include_str!("aws.rs"),
            include_str!("commands.rs"),
            include_str!("compute.rs"),
            include_str!("network.rs"),
            include_str!("roles.rs"),
            include_str!("servers.rs"),
            include_str!("storage.rs"),
        ];
        let code = sources.map(|source| source.split("#[cfg(test)]").next().unwrap()).join("\n");
        let words = code.split('"').skip(1).step_by(2);
        let services = ["ec2:", "iam:", "lambda:", "logs:", "s3:", "sts:"];
        words
            .filter(|word| services.iter().any(|service| word.starts_with(service)))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn whoever_deploys_may_do_what_the_code_asks_for_and_no_more() {
        let policy: Value =
            serde_json::from_str(include_str!("../../../docs/aws-deploy-policy.json")).unwrap();
        let mut asked = asked();
        assert!(asked.len() > 40, "{asked:?}");
        // What AWS does with the permissions of whoever asks: it gives roles to services, and sets and tells tags.
        let implied = [
            "iam:PassRole",
            "iam:TagInstanceProfile",
            "iam:TagRole",
            "lambda:ListTags",
            "lambda:TagResource",
            "logs:TagResource",
        ];
        asked.extend(implied.map(str::to_owned));
        // Everybody may ask that.
        asked.remove("sts:GetCallerIdentity");
        assert_eq!(allowed(&policy), asked);
    }
}
