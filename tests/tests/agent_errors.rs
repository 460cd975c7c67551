//! The five things that an agent's error can mean, each where it comes about; on the simulator, without a plan around it.

use std::time::Duration;

use freezeframe::world::{
    World as _,
    sim::{SimEnv, SimWorld},
};
use freezeframe_driver::{
    agent::{Agent, AgentError, rest::Rest},
    env::{Endpoint, Env as _},
    error::Code,
};
use freezeframe_sim::{
    Machine, Oracle, Release, Simulation,
    exec::Spawner,
    machine::agent::{Agent as Described, Presence},
};

type Env = SimEnv<Spawner>;

/// How long a call may take.
const WITHIN: Duration = Duration::from_secs(30);

/// What comes of speaking to the agent of a machine.
fn with<R>(presence: Presence, story: impl AsyncFnOnce(&Env, Endpoint) -> R) -> R {
    let machine = Machine::new().disk("vda").agent(Described::linux().presence(presence));
    let simulation = Simulation::new(&machine, Release::V10_0, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&machine, handle.sockets(), handle.spawner());
    simulation.run(async { story(world.env(), world.agent()).await }).unwrap()
}

/// What comes of one call to an agent.
fn call<R: serde::de::DeserializeOwned>(presence: Presence, command: &str) -> Result<R, AgentError> {
    with(presence, async |env: &Env, port| {
        let deadline = env.now() + WITHIN;
        let mut agent = Agent::connect(env, &port, deadline).await?;
        agent.call(command, None::<&()>, deadline).await
    })
}

#[test]
fn without_a_port_none_is_configured() {
    let error = with(Presence::Answers, async |env: &Env, _| {
        let rest = Rest::new(env.clone(), None);
        rest.status(env.now() + WITHIN).await.unwrap_err()
    });
    assert_eq!(error, AgentError::NotConfigured);
    assert_eq!((error.code(), error.is_doubtful()), (Code::ArgumentUnsupported, false));
}

#[test]
fn a_port_where_nobody_listens_is_not_connected() {
    let error = with(Presence::Answers, async |env: &Env, _| {
        let nowhere = Endpoint::Unix("/nowhere".into());
        Agent::connect(env, &nowhere, env.now() + WITHIN).await.unwrap_err()
    });
    assert!(matches!(&error, AgentError::NotConnected(why) if why.contains("/nowhere")), "{error}");
    assert_eq!((error.code(), error.is_doubtful()), (Code::AgentUnresponsive, true));
}

#[test]
fn an_agent_that_says_nothing_is_unresponsive_and_so_soon_as_it_is_to_sync() {
    for presence in [Presence::Mute, Presence::Absent] {
        let error = call::<serde_json::Value>(presence, "guest-ping").unwrap_err();
        let AgentError::Unresponsive { command, waited } = &error else { panic!("{error}") };
        assert_eq!((command.as_str(), *waited), ("guest-sync-delimited", Duration::from_secs(5)));
        assert_eq!((error.code(), error.is_doubtful()), (Code::AgentUnresponsive, true));
    }
}

#[test]
fn a_request_whose_time_is_up_may_yet_be_carried_out() {
    let (error, status) = with(Presence::Answers, async |env: &Env, port| {
        let mut agent = Agent::connect(env, &port, env.now() + WITHIN).await.unwrap();
        agent.sync(env.now() + WITHIN).await.unwrap();
        let error = agent.freeze(env.now() + Duration::from_millis(5)).await.unwrap_err();
        (error, agent.freeze_status(env.now() + WITHIN).await.unwrap().name())
    });
    assert!(matches!(&error, AgentError::Unresponsive { command, .. } if command == "guest-fsfreeze-freeze"));
    assert_eq!((error.code(), error.is_doubtful()), (Code::AgentCommandTimeout, true));
    assert_eq!(status, "frozen");
}

#[test]
fn an_answer_that_is_none_is_out_of_step() {
    let error = call::<u64>(Presence::Answers, "guest-ping").unwrap_err();
    assert!(matches!(&error, AgentError::Unsynchronised(why) if why.contains("guest-ping")), "{error}");
    assert_eq!((error.code(), error.is_doubtful()), (Code::AgentUnsynced, true));
}

#[test]
fn a_request_that_is_refused_has_failed_in_the_agents_words() {
    let error = call::<serde_json::Value>(Presence::Answers, "guest-nope").unwrap_err();
    let AgentError::Failed { command, error: words } = &error else { panic!("{error}") };
    assert_eq!((command.as_str(), words.class.as_str()), ("guest-nope", "CommandNotFound"));
    assert_eq!((error.code(), error.is_doubtful()), (Code::AgentCommandFailed, false));
}
