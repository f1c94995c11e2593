//! `narthex demo`: three small origins, a real proxy in front of them, and what to try.

mod controller;
mod origin;
mod page;
mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use narthex_engine::Source;

use crate::args::DemoArgs;
use crate::exit::{Exit, complain, say};
use crate::serve::{Serve, serve};
use origin::Origin;

/// Names and colours of the origins.
const ORIGINS: [(&str, &str); 3] = [
    ("Amber", "#ffbf3f"),
    ("Jade", "#4fbf8f"),
    ("Cobalt", "#5f9fff"),
];

/// Where everything listens.
struct Places {
    proxy: u16,
    admin: u16,
    controller: u16,
    origins: Vec<u16>,
}

/// Starts everything and serves until Ctrl-C.
pub fn run(args: &DemoArgs) -> Exit {
    let (places, _origins) = match start(args) {
        Ok(started) => started,
        Err(error) => {
            complain(format!("the demo cannot start: {error}"));
            return Exit::No;
        }
    };
    let source = Source::Text {
        name: "the demo's configuration".to_owned(),
        text: configuration(&places, args.access_log),
    };
    let exit = serve(Serve {
        source,
        default_admin: false,
        upgradable: false,
        welcome: Some(welcome(&places)),
        hint: None,
        log_level: Some("warn"),
    });
    if exit == Exit::Ok {
        say("stopped; nothing is left behind\n");
    }
    exit
}

fn start(args: &DemoArgs) -> std::io::Result<(Places, Arc<[Origin]>)> {
    let origins = ORIGINS
        .iter()
        .map(|(name, color)| Origin::start(name, color))
        .collect::<std::io::Result<Arc<[Origin]>>>()?;
    let controller = controller::start(&origins)?;
    let proxy = free_port(args.port)?;
    let admin = free_port(args.admin_port)?;
    let places = Places {
        proxy,
        admin,
        controller,
        origins: origins.iter().map(Origin::port).collect(),
    };
    Ok((places, origins))
}

/// This port if it is free, else any.
fn free_port(wanted: u16) -> std::io::Result<u16> {
    let bind = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Ok(bind(wanted).or_else(|_| bind(0))?.local_addr()?.port())
}

/// What the proxy serves: a configuration as a person would write it.
fn configuration(places: &Places, access_log: bool) -> String {
    let servers: String = places.origins.iter().fold(String::new(), |text, port| {
        text + &format!("    server \"127.0.0.1:{port}\"\n")
    });
    let log = if access_log { "combined" } else { "off" };
    format!(
        "version 1\n\
         \n\
         admin \"127.0.0.1:{}\"\n\
         access-log \"{log}\"\n\
         listen \"127.0.0.1:{}\"\n\
         \n\
         upstream \"origins\" {{\n\
         {servers}    \
             balance \"round-robin\"\n    \
             health-check \"/healthz\" interval=\"500ms\" timeout=\"400ms\" healthy=2 unhealthy=2\n\
         }}\n\
         \n\
         site \"*\" {{\n    \
             route path=\"/demo/*\" {{ proxy \"127.0.0.1:{}\" }}\n    \
             route {{ proxy \"origins\" }}\n\
         }}\n",
        places.admin, places.proxy, places.controller
    )
}

fn welcome(places: &Places) -> String {
    let (proxy, admin) = (places.proxy, places.admin);
    let origins: String = ORIGINS.iter().zip(&places.origins).enumerate().fold(
        String::new(),
        |text, (n, ((name, _), port))| {
            text + &format!("    {}  {name:<8} http://127.0.0.1:{port}/\n", n + 1)
        },
    );
    format!(
        "
Narthex serves three small origins:

    http://127.0.0.1:{proxy}/          the proxy
    http://127.0.0.1:{admin}/          its admin address
{origins}
What to try:

  See requests balanced over the origins (refresh the page in a browser, or):
    for i in 1 2 3 4 5 6; do curl -s http://127.0.0.1:{proxy}/name; done

  Kill an origin. Requests go on to the other two; after ten seconds it comes back and heals:
    curl -X POST http://127.0.0.1:{proxy}/demo/kill/2
    curl -s http://127.0.0.1:{admin}/upstreams

  See the configuration with every default that applies, the metrics, the state:
    curl http://127.0.0.1:{admin}/config
    curl http://127.0.0.1:{admin}/metrics
    narthex status --admin 127.0.0.1:{admin}

  Ask which route takes a request, and why the others do not:
    narthex explain GET http://127.0.0.1:{proxy}/demo --admin 127.0.0.1:{admin}

Ctrl-C stops it.

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_serves_a_good_configuration_without_warnings() {
        let places = Places {
            proxy: 8080,
            admin: 9180,
            controller: 4000,
            origins: vec![4001, 4002, 4003],
        };
        for access_log in [false, true] {
            let source = Source::Text {
                name: "demo".to_owned(),
                text: configuration(&places, access_log),
            };
            let outcome = source.examine();
            assert_eq!(outcome.human, "");
            let config = outcome.config.unwrap();
            assert_eq!(
                config
                    .upstreams
                    .iter()
                    .find(|u| u.name == "origins")
                    .unwrap()
                    .servers
                    .len(),
                3
            );
        }
    }

    #[test]
    fn a_taken_port_gives_way_to_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(port).unwrap(), port);
    }
}
