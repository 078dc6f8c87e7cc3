//! What `app crucial status` says of a cluster.

/// Whether all nodes are up and have their share, and every partition has its replicas and is led by its owner; else what
/// is missing.
pub(crate) fn settled(text: &str, nodes: usize, replicas: usize) -> Result<(), String> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut table = |head: &str| {
        let found = lines.by_ref().find(|words| words.first() == Some(&head));
        found.ok_or_else(|| format!("its status has no table with `{head}`"))
    };
    table("node")?;
    table("node")?;
    let (mut up, mut idle, mut parts) = (0, 0, 0_usize);
    for words in lines.by_ref() {
        match words[..] {
            [_, _, state, owns] => {
                up += usize::from(state == "up");
                // A lost node that was replaced is listed for a while.
                idle += usize::from(state == "up" && owns == "0");
            }
            _ => break,
        }
    }
    if up != nodes {
        return Err(format!("{up} of {nodes} nodes are up"));
    }
    for words in lines.by_ref() {
        // Number, owner, leader, replicas, objects, lag.
        let (Some(Ok(_)), [number, owner, leader, held @ .., _, lag]) =
            (words.first().map(|word| word.parse::<u32>()), &words[..])
        else {
            break;
        };
        parts += 1;
        if held.contains(&"changing") {
            return Err(format!("the replicas of partition {number} are changing"));
        }
        if owner != leader || held.len() != replicas || *lag != "0" {
            return Err(format!(
                "partition {number} is owned by node {owner} and led by {leader}, has {} of {replicas} replicas, and lags \
                 by {lag}",
                held.len()
            ));
        }
    }
    match parts {
        0 => Err("there are no partitions yet".to_owned()),
        // Fewer nodes may be enough for all, if each takes its share.
        _ if idle > nodes - parts.div_ceil(parts.div_ceil(nodes)) => {
            Err(format!("{idle} nodes own nothing yet"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::settled;

    const STATUS: &str = "\
127.0.0.1:1  node 00000001  up 5s  runs 0  sessions 0
node 1 of cluster \"main\"  epoch 9  placement led by 1
  node  address                    state   owns
     1  127.0.0.1:1                   up      1
     2  127.0.0.1:2                   up      1
partition  owner  leader  replicas         objects    lag
        0      1       1  1 2                    0      0
        1      2       2  1 2                    3      0
no objects
";

    #[test]
    fn a_cluster_is_settled_when_all_have_their_share() {
        assert_eq!(settled(STATUS, 2, 2), Ok(()));
    }

    #[test]
    fn what_is_missing_is_said() {
        for (from, to, nodes, says) in [
            ("x", "x", 3, "2 of 3 nodes are up"),
            ("2                   up", "2                 down", 2, "1 of 2 nodes are up"),
            ("2       2  1 2", "2       1  1 2", 2, "partition 1 is owned by node 2 and led by 1"),
            ("2       2  1 2", "2       ?  1 2", 2, "led by ?"),
            ("2       2  1 2", "2       2  1  ", 2, "has 1 of 2 replicas"),
            ("3      0", "3      7", 2, "lags by 7"),
            ("2       2  1 2  ", "2       2  1 2 changing", 2, "the replicas of partition 1 are changing"),
            ("2                   up      1", "2                   up      0", 2, "1 nodes own nothing yet"),
            (STATUS.split_once("lag\n").unwrap().1, "", 2, "no partitions yet"),
            ("node 1", "no 1", 2, "no table"),
        ] {
            let error = settled(&STATUS.replace(from, to), nodes, 2).unwrap_err();
            assert!(error.contains(says), "{error} should say {says}");
        }
        assert!(settled("", 1, 1).is_err());
    }
}
