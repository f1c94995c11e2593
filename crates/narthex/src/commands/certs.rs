//! `narthex certs` and `narthex trust`: what the running process obtained, and whom clients of the internal authority believe.

use narthex_engine::{Source, obtain};

use crate::args::{CertsArgs, TrustArgs};
use crate::client::{ask, places};
use crate::commands::control::{field, unanswered};
use crate::exit::{Exit, complain, say, show};
use crate::serve::config_file;

/// Certificates of the running process.
pub fn certs(args: &CertsArgs) -> Exit {
    let places = places(&args.admin, args.config.as_deref());
    let accept = if args.json {
        "application/json"
    } else {
        "text/plain"
    };
    match ask(&places, "GET", "/certificates", accept, None) {
        Ok(answer) if answer.status == 200 => {
            say(&answer.body);
            Exit::Ok
        }
        Ok(answer) => {
            complain(field(&answer, "error"));
            Exit::No
        }
        Err(why) => unanswered(&why),
    }
}

/// The root of the internal authority.
pub fn trust(args: &TrustArgs) -> Exit {
    let path = match config_file(args.config.as_ref()) {
        Ok(path) => path,
        Err(exit) => return exit,
    };
    let outcome = Source::File(path).examine();
    let Some(config) = &outcome.config else {
        show(&outcome.human);
        return if outcome.readable {
            Exit::No
        } else {
            Exit::Usage
        };
    };
    match obtain::trust(config) {
        Ok(Some(root)) => {
            say(root);
            Exit::Ok
        }
        Ok(None) => {
            complain(format!(
                "there is no internal authority in {} yet: it is made with the first certificate of a site with `tls \"internal\"`",
                config.acme.storage.display()
            ));
            Exit::No
        }
        Err(why) => {
            complain(why);
            Exit::No
        }
    }
}
